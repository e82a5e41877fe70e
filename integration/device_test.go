package integration

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"coracle/internal/testwait"
)

// deviceResource is what the plugin of these tests offers: d1, which is /dev/zero, and d2, which is /dev/null.
const deviceResource = "test.example.com/dev"

// devicePlugin offers two devices as a vendor's plugin does.
type devicePlugin struct {
	api.UnimplementedDevicePluginServer
	lists chan []*api.Device // none is lost
}

func (*devicePlugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *devicePlugin) ListAndWatch(_ *api.Empty, out grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	for {
		select {
		case list := <-p.lists:
			if err := out.Send(&api.ListAndWatchResponse{Devices: list}); err != nil {
				return err
			}
		case <-out.Context().Done():
			return nil
		}
	}
}

func (*devicePlugin) Allocate(_ context.Context, r *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, c := range r.ContainerRequests {
		id := strings.Join(c.DevicesIds, ",")
		host := map[string]string{"d1": "/dev/zero", "d2": "/dev/null"}[id]
		answer.ContainerResponses = append(answer.ContainerResponses, &api.ContainerAllocateResponse{
			Envs:    map[string]string{"DEVICE": id},
			Devices: []*api.DeviceSpec{{HostPath: host, ContainerPath: "/dev/given", Permissions: "rw"}},
			Mounts:  []*api.Mount{{HostPath: "/proc/sys/kernel", ContainerPath: "/given", ReadOnly: true}},
		})
	}
	return answer, nil
}

// startDevicePlugin registers a plugin with the node's agent; stop makes it go away.
func (s *space) startDevicePlugin(name string) (p *devicePlugin, stop func()) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "kubelet", "device-plugins")
	p = &devicePlugin{lists: make(chan []*api.Device, 10)}
	p.lists <- []*api.Device{{ID: "d1", Health: api.Healthy}, {ID: "d2", Health: api.Healthy}}
	listener, err := net.Listen("unix", filepath.Join(dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	stop = func() {
		server.Stop()
		if err := testwait.Receive(s.t, "the plugin's server is to end", ended); err != nil {
			s.t.Errorf("plugin: %v", err)
		}
		ended <- nil
	}
	s.t.Cleanup(stop)
	conn, err := grpc.NewClient("unix://"+filepath.Join(dir, "kubelet.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // nothing is under way
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: name, ResourceName: deviceResource}
	if _, err := api.NewRegistrationClient(conn).Register(ctx, request, grpc.WaitForReady(true)); err != nil {
		s.t.Fatalf("register a device plugin: %v", err)
	}
	return p, stop
}

func (s *space) waitDevices(capacity, allocatable string) {
	s.t.Helper()
	s.eventually(60*time.Second, func() error {
		var node corev1.Node
		if err := s.read(&node, "node", s.node); err != nil {
			return err
		}
		c, a := node.Status.Capacity[deviceResource], node.Status.Allocatable[deviceResource]
		if c.String() != capacity || a.String() != allocatable {
			return fmt.Errorf("the node has %s devices and %s to allocate, want %s and %s", c.String(), a.String(), capacity, allocatable)
		}
		return nil
	})
}

// deviceOf is which device a pod's container sees, after it has been used.
func (s *space) deviceOf(name string) string {
	s.t.Helper()
	out := ""
	s.eventually(30*time.Second, func() (err error) {
		out, err = s.kubectl("exec", name, "--", "sh", "-c", "echo $DEVICE $(head -c 3 /dev/given | wc -c) $(stat -c %t:%T /dev/given) $(cat /given/ostype)")
		return err
	})
	return strings.TrimSpace(out)
}

func deviceHealth(health corev1.ResourceHealthStatus) func(*corev1.Pod) error {
	return func(p *corev1.Pod) error {
		for _, cs := range p.Status.ContainerStatuses {
			for _, r := range cs.AllocatedResourcesStatus {
				if r.Name == deviceResource && len(r.Resources) == 1 && r.Resources[0].Health == health {
					return nil
				}
			}
		}
		return fmt.Errorf("pod %s has no device that is %s: %+v", p.Name, health, p.Status.ContainerStatuses)
	}
}

// TestDevices runs a device plugin: two pods get a device each and keep it over restarts of container and agent, others
// wait or are turned away, and the node's capacity follows the plugin.
func TestDevices(t *testing.T) {
	const first, second = "d1 3 1:5 Linux", "d2 0 1:3 Linux"
	s := newSpace(t)
	p, _ := s.startDevicePlugin("first.sock")
	s.waitDevices("2", "2")
	asks := "resources: {limits: {" + deviceResource + ": 1}}"
	once := "while [ ! -e /stop ]; do sleep 0.2; done"
	s.apply(s.busybox("one", once, asks))
	s.waitReady("one")
	s.apply(s.busybox("two", sleeper, asks))
	s.waitReady("two")
	if a, b := s.deviceOf("one"), s.deviceOf("two"); a != first || b != second {
		t.Fatalf("the pods see %q and %q", a, b)
	}
	s.apply(s.busybox("three", sleeper, asks))
	s.waitPod("three", 30*time.Second, func(p *corev1.Pod) error {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && strings.Contains(c.Message, "Insufficient "+deviceResource) {
				return phase(corev1.PodPending)(p)
			}
		}
		return fmt.Errorf("conditions of a pod for which there is no device: %+v", p.Status.Conditions)
	})
	s.apply(s.podWith("forced", "nodeName: "+s.node, asks))
	forced := s.waitPod("forced", 30*time.Second, phase(corev1.PodFailed))
	if forced.Status.Reason != "UnexpectedAdmissionError" || !strings.Contains(forced.Status.Message, "requested number of devices unavailable for "+deviceResource+". Requested: 1, Available: 0") {
		t.Errorf("a pod bound past the scheduler: %s: %s", forced.Status.Reason, forced.Status.Message)
	}
	p.lists <- []*api.Device{{ID: "d1", Health: api.Unhealthy}, {ID: "d2", Health: api.Healthy}}
	s.waitDevices("2", "1")
	s.waitPod("one", 30*time.Second, deviceHealth(corev1.ResourceHealthStatusUnhealthy))

	// The agent dies, and its successor has no plugin at first.
	restart(t, s.agent)
	s.waitDevices("0", "0")
	s.waitPod("one", 30*time.Second, deviceHealth(corev1.ResourceHealthStatusUnknown))
	if a, b := s.deviceOf("one"), s.deviceOf("two"); a != first || b != second {
		t.Errorf("after the agent's restart the pods see %q and %q", a, b)
	}
	s.do("exec", "one", "--", "touch", "/stop")
	s.waitPod("one", 60*time.Second, func(p *corev1.Pod) error {
		if cs := p.Status.ContainerStatuses[0]; cs.RestartCount != 1 || !cs.Ready {
			return fmt.Errorf("container not restarted: %+v", cs)
		}
		return nil
	})
	if got := s.deviceOf("one"); got != first {
		t.Errorf("after the container's restart the pod sees %q", got)
	}

	_, stop := s.startDevicePlugin("second.sock")
	s.waitDevices("2", "2")
	s.waitPod("one", 30*time.Second, deviceHealth(corev1.ResourceHealthStatusHealthy))
	s.do("delete", "pod", "two", "--timeout=60s")
	s.waitReady("three")
	if got := s.deviceOf("three"); got != second {
		t.Errorf("the pod that waited sees %q", got)
	}
	stop()
	s.waitDevices("2", "0")
	if c := ready(s.pod("three")); c.Status != corev1.ConditionTrue {
		t.Errorf("the plugin went away and the pod is not ready: %+v", c)
	}
}
