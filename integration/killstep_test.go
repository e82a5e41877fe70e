package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKillAtEachStep kills the agent before and after each step of a pod's plan. The next start continues: nothing is
// started twice, nothing is leaked.
func TestKillAtEachStep(t *testing.T) {
	s := newSpace(t)
	n := 0
	for _, step := range []string{"PullImage", "PinNamespaces", "AttachNetwork", "MountVolumes", "MakeCgroup", "CreateContainer", "StartContainer"} {
		for _, when := range []string{"before", "after"} {
			n++
			name := fmt.Sprintf("birth-%d", n)
			s.killAt(when+" "+step, func() { s.apply(s.busybox(name, sleeper)) })
			s.waitReady(name)
			p := s.pod(name)
			if count := p.Status.ContainerStatuses[0].RestartCount; count != 0 {
				t.Errorf("killed %s %s: restartCount is %d", when, step, count)
			}
			if ids := s.containersOf(string(p.UID)); len(ids) != 1 {
				t.Errorf("killed %s %s: the pod has containers %v, want one", when, step, ids)
			}
			s.do("delete", "pod", name, "--timeout=60s")
		}
	}
	for _, step := range []string{"SignalContainer", "RemoveContainer", "DetachNetwork", "UnmountVolumes", "RemoveNamespaces", "RemoveCgroup"} {
		for _, when := range []string{"before", "after"} {
			n++
			name := fmt.Sprintf("death-%d", n)
			s.apply(s.busybox(name, sleeper))
			s.waitReady(name)
			s.killAt(when+" "+step, func() { s.do("delete", "pod", name, "--wait=false") })
			s.eventually(60*time.Second, func() error {
				if _, err := s.kubectl("get", "pod", name); err == nil || !strings.Contains(err.Error(), "not found") {
					return fmt.Errorf("killed %s %s: the pod is not gone (%w)", when, step, err)
				}
				return nil
			})
		}
	}
	s.eventually(20*time.Second, func() error {
		if left := s.leftovers(); len(left) > 0 {
			return fmt.Errorf("left behind: %s", strings.Join(left, "\n"))
		}
		return nil
	})
}

// killAt arms a failpoint in the agent, does something that leads to it, and starts the agent again once it has died.
func (s *space) killAt(failpoint string, do func()) {
	s.t.Helper()
	if err := os.WriteFile(s.failpointFile(), []byte(failpoint), 0o600); err != nil {
		s.t.Fatal(err)
	}
	do()
	if err := s.agent.wait(30 * time.Second); err != nil {
		_ = os.Remove(s.failpointFile())
		s.t.Fatalf("the agent never came %s: %v", failpoint, err)
	}
	if err := s.agent.start(); err != nil {
		s.t.Fatal(err)
	}
}

func (c *cluster) failpointFile() string { return filepath.Join(c.dir, "failpoint") }

// containersOf are the ids of the containers in containerd that carry the pod's uid in a label.
func (s *space) containersOf(uid string) []string {
	s.t.Helper()
	out, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "containers", "list", "--quiet")
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for id := range strings.FieldsSeq(out) {
		if info, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "containers", "info", id); err == nil && strings.Contains(info, uid) {
			ids = append(ids, id)
		}
	}
	return ids
}
