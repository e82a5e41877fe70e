package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestKillBoth kills the agent and the control plane while a pod runs: the container keeps its PID, its start time and
// its Ready condition, nothing is started twice, and the pod can still be used and deleted.
func TestKillBoth(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("steady", "while :; do date +%s; sleep 1; done"))
	s.waitReady("steady")
	before := s.pod("steady")
	pid := s.containerPID(before, "main")

	restartAgent := func() { restart(t, s.agent) }
	restartControl := func() { restart(t, s.control); s.waitAPI() }
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"agent", restartAgent},
		{"control plane", restartControl},
		{"log writer", func() { restart(t, s.logs) }},
		{"agent and control plane", func() { s.agent.kill(); restartControl(); restartAgent() }},
	} {
		step.do()
		if err := s.waitNodeReady(60 * time.Second); err != nil {
			t.Fatalf("after kill -9 of %s: %v", step.name, err)
		}
		s.eventually(30*time.Second, func() error { _, err := s.kubectl("exec", "steady", "--", "true"); return err })
		after := s.pod("steady")
		if got := s.containerPID(after, "main"); got != pid {
			t.Fatalf("after kill -9 of %s the container has PID %s, had %s", step.name, got, pid)
		}
		if a, b := ready(before), ready(after); a.Status != b.Status || !a.LastTransitionTime.Equal(&b.LastTransitionTime) {
			t.Errorf("after kill -9 of %s Ready went from %+v to %+v", step.name, a, b)
		}
		if n := after.Status.ContainerStatuses[0].RestartCount; n != 0 {
			t.Errorf("after kill -9 of %s restartCount is %d", step.name, n)
		}
	}
	logs := strings.Fields(s.do("logs", "steady"))
	for i := 1; i < len(logs); i++ {
		if logs[i] == "" || logs[i] < logs[i-1] {
			t.Errorf("log line %d is %q after %q", i, logs[i], logs[i-1])
		}
	}
}

// TestControlPlaneAway stops the control plane for a while: the pod runs on, a container that crashes meanwhile is
// started again, and the status arrives afterwards.
func TestControlPlaneAway(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("lonely", "echo run; "+sleeper))
	s.waitReady("lonely")
	pid := s.containerPID(s.pod("lonely"), "main")
	id := strings.TrimPrefix(s.pod("lonely").Status.ContainerStatuses[0].ContainerID, "containerd://")

	s.control.stop()
	defer func() {
		if s.control.exited() {
			restart(t, s.control)
			s.waitAPI()
		}
	}()
	if _, err := output(nil, "", "kill", "-KILL", pid); err != nil {
		t.Fatal(err)
	}
	s.eventually(30*time.Second, func() error {
		out, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "tasks", "list")
		if err != nil {
			return err
		}
		prefix := id[:strings.LastIndex(id, "-")] // the id without its attempt
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], prefix) && f[0] != id && f[2] == "RUNNING" {
				return nil
			}
		}
		return fmt.Errorf("the crashed container was not started again without a control plane:\n%s", out)
	})
	restart(t, s.control)
	s.waitAPI()
	s.waitPod("lonely", 60*time.Second, func(p *pod) error {
		cs := p.Status.ContainerStatuses[0]
		if cs.RestartCount != 1 || cs.State.Running == nil || cs.LastTerminationState.Terminated == nil || cs.LastTerminationState.Terminated.ExitCode != 137 {
			return fmt.Errorf("the status that arrived afterwards is %+v", cs)
		}
		return nil
	})
	if err := s.waitNodeReady(60 * time.Second); err != nil {
		t.Error(err)
	}
}

// TestContainerdRestarts restarts containerd: its tasks live on in their shims, and so does the pod.
func TestContainerdRestarts(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("shimmed", sleeper))
	s.waitReady("shimmed")
	pid := s.containerPID(s.pod("shimmed"), "main")
	restart(t, s.containerd)
	s.eventually(30*time.Second, func() error {
		_, err := s.kubectl("exec", "shimmed", "--", "true")
		return err
	})
	if got := s.containerPID(s.pod("shimmed"), "main"); got != pid {
		t.Errorf("after a restart of containerd the container has PID %s, had %s", got, pid)
	}
	s.apply(s.busybox("after", sleeper))
	s.waitReady("after")
}

func restart(t testing.TB, p *process) {
	t.Helper()
	p.kill()
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
}

func (s *space) waitAPI() {
	s.t.Helper()
	if err := s.waitAnswer(); err != nil {
		s.t.Fatal(err)
	}
}

func ready(p *pod) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c
		}
	}
	return corev1.PodCondition{}
}
