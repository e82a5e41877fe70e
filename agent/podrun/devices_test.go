package podrun

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// memDevices gives each pod one device as long as there are any.
type memDevices struct {
	mu     sync.Mutex
	free   int
	taken  map[types.UID]bool
	broken error // of Prepare
}

func (m *memDevices) Admit(_ context.Context, p *v1.Pod) *pod.Rejection {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.taken[p.UID] && m.free == 0 {
		return &pod.Rejection{Reason: "UnexpectedAdmissionError", Message: "none left"}
	}
	if !m.taken[p.UID] {
		m.taken[p.UID], m.free = true, m.free-1
	}
	return nil
}

func (m *memDevices) Prepare(_ context.Context, p *v1.Pod, c *v1.Container, spec *pod.ContainerSpec) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.taken[p.UID] {
		return fmt.Errorf("container %s of pod %s has no device", c.Name, p.Name)
	}
	spec.Devices = append(spec.Devices, pod.Device{HostPath: "/dev/null", ContainerPath: "/dev/x", Permissions: "rw"})
	return m.broken
}

func (m *memDevices) Health(uid types.UID) map[string][]v1.ResourceStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.taken[uid] {
		return nil
	}
	return map[string][]v1.ResourceStatus{"web": {{Name: "example.com/dev"}}}
}

func (m *memDevices) Release(uid types.UID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken[uid] {
		m.free++
	}
	delete(m.taken, uid)
	return nil
}

func (m *memDevices) Pods(context.Context) (map[types.UID]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[types.UID]bool{}
	for uid := range m.taken {
		out[uid] = true
	}
	return out, nil
}

func (m *memDevices) left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.free
}

// A pod has its devices from its admission until it has ended, and is turned away without any.
func TestDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, devices := newNode(t), &memDevices{free: 1, taken: map[types.UID]bool{}}
		given := func(c *Config) { twoCPUs(c); c.Devices = devices }
		_, stop := n.run(t, given)
		// One that does not fit for another reason gives back what it got.
		n.store.assign(withRequest(newPod("u0", "web"), "3"))
		n.pass(time.Second)
		if s, _, _ := n.outbox.Last("u0"); s.Reason != "OutOfcpu" || devices.left() != 1 {
			t.Errorf("a pod that does not fit: %s, and %d devices are left", s.Reason, devices.left())
		}
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		s, _, _ := n.outbox.Last("u1")
		if !n.ready("u1") || len(s.ContainerStatuses[0].AllocatedResourcesStatus) != 1 {
			t.Errorf("a pod with a device: %+v", s)
		}
		n.store.assign(newPod("u2", "web"))
		n.pass(time.Second)
		if s, _, _ := n.outbox.Last("u2"); s.Phase != v1.PodFailed || s.Reason != "UnexpectedAdmissionError" || s.Message != "Pod was rejected: none left" {
			t.Errorf("a pod for which there is no device: %+v", s)
		}
		stop()
		// A pod that is gone when the next agent begins, and left nothing but its device.
		devices.mu.Lock()
		devices.taken["gone"] = true
		devices.mu.Unlock()
		_, stop = n.run(t, given)
		defer stop()
		n.pass(time.Second)
		if devices.left() != 0 {
			t.Error("a device was taken back before the store was complete")
		}
		n.store.setComplete()
		n.pass(time.Second)
		if !n.ready("u1") || devices.left() != 1 {
			t.Errorf("after a restart: ready %v, %d devices are free", n.ready("u1"), devices.left())
		}
		n.store.userDeletes("u1", 0)
		n.pass(5 * time.Second)
		// The scheduler may bind the next pod as soon as the API has let go of this one.
		if devices.left() != 2 {
			t.Errorf("the pod has ended and %d devices are free", devices.left())
		}
		n.store.remove("u1")
		n.pass(time.Second)
		if devices.left() != 2 {
			t.Errorf("after the pod's end %d devices are free", devices.left())
		}
		devices.mu.Lock()
		devices.broken = errors.New("the plugin has gone away")
		devices.mu.Unlock()
		n.store.assign(newPod("u3", "web"))
		n.pass(time.Second)
		if reason, message := n.waiting("u3"); reason != reasonConfig || !strings.Contains(message, "gone away") {
			t.Errorf("a container whose device cannot be prepared waits for %s: %s", reason, message)
		}
	})
}
