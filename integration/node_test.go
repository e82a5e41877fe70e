package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestNode looks at the node as a person does, then deletes its object: it comes back, and the pods on it do not notice.
func TestNode(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("steady", sleeper))
	s.waitReady("steady")
	pid := s.containerPID(s.pod("steady"), "main")

	s.eventually(30*time.Second, func() error {
		out := s.do("describe", "node", nodeName)
		for _, reason := range []string{"Starting", "RegisteredNode", "NodeReady", "NodeHasSufficientMemory"} {
			if !strings.Contains(out, reason) {
				return fmt.Errorf("describe node does not tell of %s:\n%s", reason, out)
			}
		}
		return nil
	})
	beat := func() time.Time {
		var n corev1.Node
		s.get(t, &n, "node", nodeName)
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return c.LastHeartbeatTime.Time
			}
		}
		t.Fatalf("the node has no condition Ready: %v", n.Status.Conditions)
		return time.Time{}
	}
	first := beat()
	s.eventually(30*time.Second, func() error {
		if now := beat(); !now.After(first) {
			return fmt.Errorf("the heartbeat stands at %s", now)
		}
		return nil
	})

	uid := s.do("get", "node", nodeName, "-o", "jsonpath={.metadata.uid}")
	s.wantContains(s.do("delete", "node", nodeName), "deleted")
	s.eventually(30*time.Second, func() error {
		out, err := s.kubectl("get", "node", nodeName, "-o", "jsonpath={.metadata.uid} {.status.conditions[?(@.type=='Ready')].status}")
		if err == nil && (strings.HasPrefix(out, uid) || !regexp.MustCompile(` True$`).MatchString(out)) {
			err = fmt.Errorf("the node is %s, was %s", out, uid)
		}
		return err
	})
	if got := s.containerPID(s.pod("steady"), "main"); got != pid {
		t.Errorf("the container has PID %s after its node was registered again, had %s", got, pid)
	}
	s.do("exec", "steady", "--", "true")
}
