package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"coracle/internal/testlogind"
)

// TestMachineShutdown: a logind of the test's own tells of a shutdown. Pods end in Kubernetes' words, the node says so and takes no
// others; when the shutdown is called off the node is Ready again, and the pod of its own files runs with the next start of the agent.
func TestMachineShutdown(t *testing.T) {
	bus := testlogind.Bus(t)
	logind := testlogind.New(t, bus, 1<<30) // it waits long enough: no configuration of this machine's logind is touched
	s := newSpace(t)
	old := slices.Clone(s.agent.env)
	s.agent.env = append(slices.Clone(old), "DBUS_SYSTEM_BUS_ADDRESS="+bus)
	t.Cleanup(func() { s.agent.env = old })
	s.reconfigure(t, func(old string) string {
		return old + "shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s\n"
	})
	s.eventually(30*time.Second, func() error {
		if n, held := logind.Held(); n == 0 || !held {
			return errors.New("the agent holds no inhibitor lock")
		}
		return nil
	})

	if err := os.MkdirAll(s.staticPodDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.staticPodDir(), "steady.yaml")
	t.Cleanup(func() {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	manifest := strings.Replace(s.busybox("steady", sleeper)+"\n", "metadata: {name: steady,", "metadata: {name: steady, namespace: "+s.name+",", 1)
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	mirror := "steady-" + s.node
	running := func(p *pod) error {
		if ready(p).Status != corev1.ConditionTrue {
			return fmt.Errorf("pod %s is %s, not ready: %s", p.Name, p.Status.Phase, p.Status.Message)
		}
		return nil
	}
	s.waitPod(mirror, 60*time.Second, running)
	s.apply(s.busybox("web", sleeper))
	s.waitReady("web")

	logind.Prepare(true)
	for _, name := range []string{"web", mirror} {
		p := s.waitPod(name, 60*time.Second, phase(corev1.PodFailed))
		c := podCondition(p, corev1.DisruptionTarget)
		if p.Status.Reason != "Terminated" || p.Status.Message != "Pod was terminated in response to imminent node shutdown." ||
			c.Status != corev1.ConditionTrue || c.Reason != corev1.PodReasonTerminationByKubelet {
			t.Errorf("%s: reason %q, message %q, DisruptionTarget %+v", name, p.Status.Reason, p.Status.Message, c)
		}
	}
	s.eventually(60*time.Second, func() error {
		if _, held := logind.Held(); held {
			return errors.New("the lock is held though all pods have ended")
		}
		var n corev1.Node
		s.get(t, &n, "node", s.node)
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionFalse && strings.Contains(c.Message, "node is shutting down") {
				return nil
			}
		}
		return fmt.Errorf("conditions: %+v", n.Status.Conditions)
	})
	s.apply(strings.Replace(s.busybox("late", sleeper), "spec:", "spec:\n  nodeName: "+s.node, 1))
	p := s.waitPod("late", 60*time.Second, phase(corev1.PodFailed))
	if p.Status.Reason != "NodeShutdown" || !strings.Contains(p.Status.Message, "Pod was rejected as the node is shutting down.") {
		t.Errorf("late: reason %q, message %q", p.Status.Reason, p.Status.Message)
	}

	logind.Prepare(false)
	if err := s.waitNodeReady(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.eventually(30*time.Second, func() error {
		if n, held := logind.Held(); n < 2 || !held {
			return errors.New("the lock was not taken anew")
		}
		return nil
	})
	s.agent.stop()
	if err := s.agent.start(); err != nil {
		t.Fatal(err)
	}
	s.waitPod(mirror, 60*time.Second, running)
	if p := s.pod("web"); p.Status.Phase != corev1.PodFailed {
		t.Errorf("web is %s after it was ended for good", p.Status.Phase)
	}
}
