package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"

	"coracle/agent/pod"
	"coracle/internal/fault"
	"coracle/internal/testwait"
)

func TestContainerLife(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("11111111-aaaa-4bbb-8ccc-000000000001", nil)
	out, end := n.output(c, "echo hello; echo to stderr >&2; exit 3")
	if end.ExitCode != 3 || end.StartedAt.IsZero() || end.FinishedAt.Before(end.StartedAt) {
		t.Errorf("end = %+v", end)
	}
	if !strings.Contains(out, "hello\n") || !strings.Contains(out, "to stderr\n") {
		t.Errorf("log = %q", out)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func TestStartErrorHasTheRuntimesWords(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("11111111-aaaa-4bbb-8ccc-000000000002", nil)
	c.Command = []string{"no-such-command"}
	id, err := n.run.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	err = n.run.Start(t.Context(), id)
	refused := StartErrorOf(err)
	if refused == nil || !errors.Is(err, fault.ErrInvalid) {
		t.Fatalf("Start = %v, want a StartError", err)
	}
	end := n.observed(c.PodUID, id, pod.Exited)
	if end.Reason != "StartError" || end.ExitCode != 128 || !strings.Contains(end.Message, "no-such-command") || !strings.Contains(end.Message, "$PATH") {
		t.Errorf("observed %+v", end)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

// nothingLeft fails for whatever outlives its pod.
func (n *node) nothingLeft() {
	n.t.Helper()
	testwait.Until(n.t, "the shims end", func() bool { return len(n.daemon.Shims()) == 0 })
	if m := n.daemon.Mounts(); len(m) > 0 {
		n.t.Errorf("mounts are left: %v", m)
	}
	for _, dir := range []string{"pods", "io", "exec"} {
		if e, err := os.ReadDir(filepath.Join(n.runDir, dir)); err == nil && len(e) > 0 {
			n.t.Errorf("%s is left in %s", e[0].Name(), dir)
		}
	}
	pods, err := n.cgroups.Pods(n.t.Context())
	if err != nil || len(pods) > 0 {
		n.t.Errorf("cgroups are left: %v %v", pods, err)
	}
	ctx := n.run.context(n.t.Context())
	if list, err := n.run.containers().List(ctx); err != nil || len(list) > 0 {
		n.t.Errorf("%d containers are left, %v", len(list), err)
	}
	if keys := n.snapshots(); len(keys) > 0 {
		n.t.Errorf("snapshots are left: %v", keys)
	}
}

// snapshots lists the snapshots that belong to a pod.
func (n *node) snapshots() []string {
	n.t.Helper()
	var keys []string
	ctx := n.run.context(n.t.Context())
	err := n.run.snapshotter().Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindActive {
			keys = append(keys, info.Name)
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return keys
}
