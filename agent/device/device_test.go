package device

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"coracle/agent/pod"
	"coracle/internal/testwait"
)

func (b *bench) wait(t *testing.T, what string, capacity, allocatable int64) {
	t.Helper()
	testwait.Until(t, what, func() bool { return b.Counts(time.Now())[resourceName] == Count{capacity, allocatable} })
}

func container(name string, devices int64) v1.Container {
	c := v1.Container{Name: name}
	if devices > 0 {
		c.Resources.Limits = v1.ResourceList{resourceName: *quantity.NewQuantity(devices, quantity.DecimalSI)}
	}
	return c
}

func newPod(uid string, main ...v1.Container) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), Name: uid}, Spec: v1.PodSpec{Containers: main}}
}

// env is the variable that the fake plugin sets for a container.
func (b *bench) env(t *testing.T, p *v1.Pod, name string) string {
	t.Helper()
	c, _, ok := pod.FindContainer(p, name)
	if !ok {
		t.Fatalf("no container %s", name)
	}
	var spec pod.ContainerSpec
	if err := b.Prepare(t.Context(), p, c, &spec); err != nil {
		t.Fatal(err)
	}
	for _, e := range spec.Env {
		if e.Name == "DEVICES" {
			return e.Value
		}
	}
	return ""
}

func (b *bench) admit(t *testing.T, p *v1.Pod, want string) {
	t.Helper()
	got := ""
	if r := b.Admit(t.Context(), p); r != nil {
		got = r.Reason + ": " + r.Message
	}
	if got != want {
		t.Fatalf("admission of %s: %q, want %q", p.Name, got, want)
	}
}

const short = "UnexpectedAdmissionError: Allocate failed due to requested number of devices unavailable for example.com/dev. Requested: 1, Available: 0, which is unexpected"

func TestDevicesOfPods(t *testing.T) {
	dir, facts := t.TempDir(), &memFacts{values: map[string]map[string][]byte{}}
	b := newBench(t, dir, facts)
	first, second, third := newPod("p1", container("main", 1)), newPod("p2", container("main", 1)), newPod("p3", container("main", 1))
	b.admit(t, newPod("plain", container("main", 0)), "")
	b.admit(t, newPod("early", container("main", 1)), "") // no plugin, so not this node's to give
	f := b.plugin(t, "a.sock", "d2 d1 !d3", nil)
	b.wait(t, "three devices, of which one is sick", 3, 2)

	b.admit(t, first, "")
	b.admit(t, first, "") // admitted twice is admitted once
	b.admit(t, second, "")
	b.admit(t, third, short)
	if got := f.told(&f.allocated); !slices.Equal(got, []string{"d1", "d2"}) {
		t.Fatalf("the plugin allocated %v", got)
	}
	if a, c := b.env(t, first, "main"), b.env(t, second, "main"); a != "d1" || c != "d2" {
		t.Errorf("the pods got %s and %s", a, c)
	}

	// A sick device is seen in the pod's status, and the pod looks at it.
	f.list("!d1 d2 d3")
	if uid := testwait.Receive(t, "the pod whose device is sick is woken", b.woken); uid != "p1" {
		for uid != "p1" { // both were woken by the first list
			uid = testwait.Receive(t, "the pod whose device is sick is woken", b.woken)
		}
	}
	b.wait(t, "another is sick", 3, 2)
	if h := b.Health("p1")["main"]; len(h) != 1 || h[0].Name != resourceName || h[0].Resources[0] != (v1.ResourceHealth{ResourceID: "d1", Health: v1.ResourceHealthStatusUnhealthy}) {
		t.Errorf("health of the first pod's devices: %+v", h)
	}
	b.admit(t, third, "")
	if err := b.Release("p2"); err != nil {
		t.Fatal(err)
	}
	b.admit(t, newPod("p4", container("main", 1)), "")

	// A later agent knows all of it before any plugin is back, and has nothing to give until then.
	b.stop()
	b = newBench(t, dir, facts)
	if got := b.Counts(time.Now())[resourceName]; got != (Count{}) {
		t.Errorf("before the plugin is back: %+v", got)
	}
	if got := b.env(t, first, "main"); got != "d1" {
		t.Errorf("after a restart the first pod has %q", got)
	}
	b.admit(t, newPod("p5", container("main", 1)), "UnexpectedAdmissionError: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices example.com/dev, which is unexpected")
	if h := b.Health("p1")["main"]; h[0].Resources[0].Health != v1.ResourceHealthStatusUnknown {
		t.Errorf("health without a plugin: %+v", h)
	}
	f = b.plugin(t, "b.sock", "d1 d2 d3", nil)
	b.wait(t, "the plugin is back", 3, 3)
	b.admit(t, newPod("p5", container("main", 1)), short)
	if pods, err := b.Pods(t.Context()); err != nil || len(pods) != 3 {
		t.Errorf("pods with devices: %v, %v", pods, err)
	}

	// Another takes the place of the first, which then goes away and is not missed.
	other := b.plugin(t, "c.sock", "d1 d2", nil)
	b.wait(t, "another plugin for the same devices", 2, 2)
	f.server.Stop()
	other.list("d1 d2 d7")
	b.wait(t, "the other's next list", 3, 3)
	other.server.Stop()
	b.wait(t, "the plugin went away", 3, 0)
	if got := b.Counts(time.Now().Add(2 * gonePatience))[resourceName]; got != (Count{}) {
		t.Errorf("long after the plugin went away: %+v", got)
	}
	if left := facts.Facts(bucketResources); len(left) != 0 {
		t.Errorf("resources kept for a plugin that is gone for good: %v", left)
	}
}

func TestInitContainersHandOn(t *testing.T) {
	b := newBench(t, t.TempDir(), &memFacts{values: map[string]map[string][]byte{}})
	f := b.plugin(t, "a.sock", "d1 d2 d3 d4", &api.DevicePluginOptions{GetPreferredAllocationAvailable: true, PreStartRequired: true})
	f.prefers = []string{"d4", "d2"}
	b.wait(t, "four devices", 4, 4)
	p := newPod("p1", container("one", 1), container("two", 1))
	sidecar := container("sidecar", 1)
	sidecar.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	p.Spec.InitContainers = []v1.Container{container("init", 2), sidecar}
	b.admit(t, p, "")
	got := map[string]string{}
	for _, c := range []string{"init", "sidecar", "one", "two"} {
		got[c] = b.env(t, p, c)
	}
	// The init container's go to the sidecar and the first main one; the second main one gets another.
	if got["init"] != "d2,d4" || got["sidecar"] != "d2" || got["one"] != "d4" || got["two"] != "d1" {
		t.Errorf("devices: %v", got)
	}
	if asked := f.told(&f.asked); !slices.Equal(asked, []string{"d1,d2,d3,d4||2", "d1,d3||1"}) {
		t.Errorf("asked for advice: %v", asked)
	}
	if started := f.told(&f.started); !slices.Equal(started, []string{"d2,d4", "d2", "d4", "d1"}) {
		t.Errorf("told of starts: %v", started)
	}
	b.admit(t, newPod("p2", container("main", 1)), "")
	b.admit(t, newPod("p3", container("main", 1)), short)

	f.server.Stop()
	b.wait(t, "the plugin went away", 4, 0)
	c, _, _ := pod.FindContainer(p, "one")
	if err := b.Prepare(t.Context(), p, c, &pod.ContainerSpec{}); err == nil || !strings.Contains(err.Error(), "has gone away") {
		t.Errorf("a start that the plugin wants to know of, without it: %v", err)
	}
}

func TestEffects(t *testing.T) {
	facts := &memFacts{values: map[string]map[string][]byte{}}
	b := newBench(t, t.TempDir(), facts)
	f := b.plugin(t, "a.sock", "d1 d2 d3", nil)
	b.wait(t, "three devices", 3, 3)
	f.answer = func([]string) *api.ContainerAllocateResponse {
		return &api.ContainerAllocateResponse{
			Envs:        map[string]string{"B": "2", "A": "1"},
			Mounts:      []*api.Mount{{HostPath: "/opt/lib", ContainerPath: "/lib/dev", ReadOnly: true}},
			Devices:     []*api.DeviceSpec{{HostPath: "/dev/null", ContainerPath: "/dev/x", Permissions: "rw"}, {HostPath: "/dev/zero", ContainerPath: "/dev/x", Permissions: "r"}},
			Annotations: map[string]string{"k": "v"},
		}
	}
	p := newPod("p1", container("main", 1))
	b.admit(t, p, "")
	spec := pod.ContainerSpec{Env: []pod.EnvVar{{Name: "A", Value: "own"}}, Mounts: []pod.Mount{{HostPath: "/own", ContainerPath: "/data"}}}
	if err := b.Prepare(t.Context(), p, &p.Spec.Containers[0], &spec); err != nil {
		t.Fatal(err)
	}
	if want := []pod.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "A", Value: "own"}}; !slices.Equal(spec.Env, want) {
		t.Errorf("variables %v: the container's own come last and win", spec.Env)
	}
	if len(spec.Mounts) != 2 || spec.Mounts[0] != (pod.Mount{HostPath: "/opt/lib", ContainerPath: "/lib/dev", ReadOnly: true, OfMachine: true}) {
		t.Errorf("mounts %+v", spec.Mounts)
	}
	if !slices.Equal(spec.Devices, []pod.Device{{HostPath: "/dev/null", ContainerPath: "/dev/x", Permissions: "rw"}}) || spec.Annotations["k"] != "v" {
		t.Errorf("devices %+v, annotations %v", spec.Devices, spec.Annotations)
	}

	failing := func(uid, want string) {
		t.Helper()
		p := newPod(uid, container("main", 1))
		r := b.Admit(t.Context(), p)
		if r == nil || r.Reason != "UnexpectedAdmissionError" || !strings.Contains(r.Message, want) {
			t.Errorf("admission: %+v, want %s", r, want)
		}
		if b.Health(p.UID) != nil {
			t.Error("a pod that was turned away has devices")
		}
	}
	f.answer = func([]string) *api.ContainerAllocateResponse {
		return &api.ContainerAllocateResponse{CdiDevices: []*api.CDIDevice{{Name: "example.com/dev=1"}}}
	}
	failing("p2", "CDI device")
	f.answer = func([]string) *api.ContainerAllocateResponse {
		return &api.ContainerAllocateResponse{Devices: []*api.DeviceSpec{{HostPath: "/dev/null", Permissions: "all"}}}
	}
	failing("p3", `permissions "all"`)
	f.answer, f.refuses = nil, errors.New("device is on fire")
	failing("p4", "device is on fire")
	f.refuses = nil
	facts.mu.Lock()
	facts.refuses = errors.New("no space left on device")
	facts.mu.Unlock()
	failing("p5", "no space left on device")
}

func TestRegistrationRefused(t *testing.T) {
	dir := t.TempDir()
	b := newBench(t, dir, &memFacts{values: map[string]map[string][]byte{}})
	for _, test := range []struct{ version, endpoint, resource, want string }{
		{"v1alpha1", "a.sock", resourceName, `API version "v1alpha1" is not supported`},
		{api.Version, "a.sock", "cpu", `ResourceName "cpu" is invalid`},
		{api.Version, "a.sock", "kubernetes.io/cpu", `ResourceName "kubernetes.io/cpu" is invalid`},
		{api.Version, "../a.sock", resourceName, "not the name of a socket"},
		{api.Version, socketName, resourceName, "not the name of a socket"},
		{api.Version, "", resourceName, "not the name of a socket"},
	} {
		err := b.register(t, &api.RegisterRequest{Version: test.version, Endpoint: test.endpoint, ResourceName: test.resource})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
	if got := b.Counts(time.Now()); len(got) != 0 {
		t.Errorf("resources of refused plugins: %v", got)
	}
	// The next run clears the folder of sockets and of nothing else.
	for _, name := range []string{"notes", "folder/x"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.plugin(t, "old.sock", "d1", nil)
	b.wait(t, "a plugin", 1, 1)
	b.stop()
	newBench(t, dir, &memFacts{values: map[string]map[string][]byte{}})
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if !slices.Equal(left, []string{"folder", socketName, "notes"}) {
		t.Errorf("in the folder: %v", left)
	}
}
