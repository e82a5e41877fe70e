package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestHundredPods runs 100 pods at once on the node, deletes them, and looks for what they left.
func TestHundredPods(t *testing.T) {
	s := newSpace(t)
	createMany(s, 100)
	waitMany(s, 100, 180*time.Second)
	s.do("delete", "pods", "--all", "--wait=false")
	s.eventually(180*time.Second, func() error {
		out, err := s.kubectl("get", "pods", "-o", "name")
		if err == nil && out != "" {
			return fmt.Errorf("%d pods are left", strings.Count(out, "\n"))
		}
		return err
	})
	s.eventually(30*time.Second, func() error {
		if left := s.leftovers(); len(left) > 0 {
			return fmt.Errorf("%d things are left after 100 pods were deleted: %s", len(left), strings.Join(left, "\n"))
		}
		return nil
	})
}

// createMany asks for n pods in one call.
func createMany(s *space, n int) {
	s.t.Helper()
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "---\n%s\n", s.busybox(fmt.Sprintf("p%03d", i), "trap 'exit 0' TERM; sleep 3600 & wait"))
	}
	if _, err := s.cluster.kubectlStdin(all.String(), "-n", s.name, "create", "-f", "-"); err != nil {
		s.t.Fatal(err)
	}
}

func waitMany(s *space, n int, d time.Duration) {
	s.t.Helper()
	s.do("wait", "--for=condition=Ready", "pods", "--all", fmt.Sprintf("--timeout=%s", d))
	if out := s.do("get", "pods", "--no-headers"); strings.Count(out, " 1/1 ") != n {
		s.t.Fatalf("of %d pods these are not Ready:\n%s", n, out)
	}
}
