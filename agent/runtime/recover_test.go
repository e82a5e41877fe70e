package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"coracle/agent/logwriter"
	"coracle/agent/pod"
	"coracle/internal/fault"
	"coracle/internal/testwait"
)

// A new agent finds everything that the killed one made, whatever it was at.
func TestKilledAgentIsContinued(t *testing.T) {
	n := newNode(t, nil)
	ctx := n.run.context(t.Context())
	c := n.testPod("44444444-aaaa-4bbb-8ccc-000000000001", nil)
	c.Command = []string{"sh", "-c", "echo started; exec sleep 1000"}
	id := ContainerID(c.PodUID, c.Name, c.Attempt)
	cuts := []struct {
		name string
		cut  func(c pod.ContainerSpec)
		want pod.State
	}{
		{"snapshot made, no record", func(c pod.ContainerSpec) {
			img, err := n.images.Get(ctx, c.Image)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := n.run.prepareSnapshot(ctx, id, img, c); err != nil {
				t.Fatal(err)
			}
		}, -1},
		{"created", func(c pod.ContainerSpec) {
			if _, err := n.run.Create(ctx, c); err != nil {
				t.Fatal(err)
			}
		}, pod.Created},
		{"task made, not run", func(c pod.ContainerSpec) {
			if _, err := n.run.Create(ctx, c); err != nil {
				t.Fatal(err)
			}
			prep, err := n.run.prepared(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			paths := logwriter.PathsOf(n.run.ioDir(), id, prep.io)
			n.run.holdFIFOs(id, paths)
			if _, _, err := n.run.makeTask(ctx, id, prep, paths); err != nil {
				t.Fatal(err)
			}
		}, pod.Created},
		{"running", func(c pod.ContainerSpec) { n.start(c) }, pod.Running},
	}
	for _, cut := range cuts {
		cut.cut(c)
		n.restart()
		o, err := n.run.Observe(t.Context(), c.PodUID)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case o.Sandbox == nil:
			t.Errorf("%s: the sandbox is lost", cut.name)
		case cut.want < 0 && len(o.Containers) > 0, cut.want >= 0 && (len(o.Containers) != 1 || o.Containers[0].State != cut.want):
			t.Errorf("%s: observed %+v", cut.name, o.Containers)
		}
		pid := 0
		if cut.want == pod.Running {
			pid = o.Containers[0].PID
		}
		if got, err := n.run.Create(t.Context(), c); got != id || err != nil {
			t.Fatalf("%s: Create = %q, %v", cut.name, got, err)
		}
		if err := n.run.Start(t.Context(), id); err != nil {
			t.Fatalf("%s: %v", cut.name, err)
		}
		running := n.observed(c.PodUID, id, pod.Running)
		if pid != 0 && running.PID != pid {
			t.Errorf("%s: process %d became %d", cut.name, pid, running.PID)
		}
		testwait.Until(t, cut.name+": the container's output", func() bool { data, _ := os.ReadFile(c.LogPath); return strings.Contains(string(data), "started") })
		if err := n.run.Remove(t.Context(), id); err != nil {
			t.Fatalf("%s: %v", cut.name, err)
		}
		if err := n.run.Remove(t.Context(), id); err != nil {
			t.Errorf("%s: removed again: %v", cut.name, err)
		}
		_ = os.Remove(c.LogPath)
	}
	// A creation that nobody continues is swept away with its pod.
	cuts[0].cut(c)
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

// containerd's own death changes nothing for containers, and is an error of class Unavailable meanwhile.
func TestContainerdIsKilled(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("44444444-aaaa-4bbb-8ccc-000000000002", nil)
	c.Command = []string{"sleep", "1000"}
	id := n.start(c)
	before := n.observed(c.PodUID, id, pod.Running)
	defer n.follow()()
	awaitChange(t, n.run, c.PodUID)

	n.daemon.Kill(t)
	if _, err := n.run.Observe(t.Context(), c.PodUID); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("observed without containerd: %v", err)
	}
	if _, err := n.run.Exec(t.Context(), id, ExecSpec{Command: []string{"true"}}); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("exec without containerd: %v", err)
	}
	n.daemon.Run(t)
	awaitChange(t, n.run, c.PodUID)
	after := n.observed(c.PodUID, id, pod.Running)
	if before.PID != after.PID || !before.StartedAt.Equal(after.StartedAt) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	for len(n.run.Changes()) > 0 {
		<-n.run.Changes()
	}
	if err := unix.Kill(after.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitChange(t, n.run, c.PodUID)
	if end := n.observed(c.PodUID, id, pod.Exited); end.ExitCode != 137 || end.OOMKilled {
		t.Errorf("end %+v", end)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

// follow has the runtime follow events until the returned function is called.
func (n *node) follow() (stop func()) {
	return testwait.Run(n.t, "the runtime", n.run.Run)
}

// Each way to end a container is an event that names its pod, and its task is let go of by and by.
func TestEndsAreNamedAndReaped(t *testing.T) {
	n := newNode(t, nil)
	n.run.reapDelay = 10 * time.Millisecond
	c := n.testPod("44444444-aaaa-4bbb-8ccc-000000000006", nil)
	c.Command = []string{"sh", "-c", "echo words; exit 4"}
	id := n.start(c)
	testwait.Until(t, "the mark", func() bool { _, err := os.Stat(n.run.markPath(id)); return err == nil })
	stop := n.follow() // begins after the end, perhaps: found by looking, not by the event
	testwait.Until(t, "the shims end", func() bool { return len(n.daemon.Shims()) == 0 })
	end := n.observed(c.PodUID, id, pod.Exited)
	if end.ExitCode != 4 || readLog(t, c.LogPath) != "words\n" {
		t.Errorf("end %+v, log %q", end, readLog(t, c.LogPath))
	}
	c.Attempt, c.LogPath, c.Command = 1, c.LogPath+"1", []string{"sleep", "1000"}
	second := n.start(c)
	pid := n.observed(c.PodUID, second, pod.Running).PID
	for len(n.run.Changes()) > 0 {
		<-n.run.Changes()
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitChange(t, n.run, c.PodUID)
	if end := n.observed(c.PodUID, second, pod.Exited); end.ExitCode != 137 {
		t.Errorf("end %+v", end)
	}
	testwait.Until(t, "the shims end", func() bool { return len(n.daemon.Shims()) == 0 })
	testwait.Until(t, "the FIFOs are let go of", func() bool {
		n.run.mu.Lock()
		defer n.run.mu.Unlock()
		return len(n.run.fifos) == 0
	})
	stop()
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func awaitChange(t *testing.T, r *Runtime, uid types.UID) {
	t.Helper()
	for testwait.Receive(t, "a change of pod "+string(uid), r.Changes()) != uid {
	}
}

// shims waits until so many run: one that executes the OCI runtime shows as two for a moment.
func (n *node) shims(want int) {
	n.t.Helper()
	testwait.Nil(n.t, fmt.Sprintf("%d shims", want), func() error {
		if got := n.daemon.Shims(); len(got) != want {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	})
}

// How a container ended is kept when its shim, and with it containerd's knowledge, is gone.
func TestExitOutlivesItsShim(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("44444444-aaaa-4bbb-8ccc-000000000003", nil)
	message := t.TempDir() + "/message"
	if err := os.WriteFile(message, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	c.TerminationMessagePath, c.TerminationMessageHostPath = "/dev/termination-log", message
	_, end := n.output(c, "echo last words > /dev/termination-log; exit 9")
	if end.ExitCode != 9 || end.Message != "last words\n" {
		t.Errorf("end %+v", end)
	}
	for _, pid := range n.daemon.Shims() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	testwait.Until(t, "the shims end", func() bool { return len(n.daemon.Shims()) == 0 })
	n.restart()
	if again := n.observed(c.PodUID, end.ID, pod.Exited); again.ExitCode != 9 || !again.FinishedAt.Equal(end.FinishedAt) || again.Message != end.Message {
		t.Errorf("first %+v\nthen %+v", end, again)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

// A shim that dies takes its containers with it: they are seen as ended, with the code nobody knows.
func TestShimIsKilled(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("44444444-aaaa-4bbb-8ccc-000000000004", nil)
	c.Command = []string{"sleep", "1000"}
	id := n.start(c)
	n.observed(c.PodUID, id, pod.Running)
	for _, pid := range n.daemon.Shims() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if end := n.observed(c.PodUID, id, pod.Exited); end.ExitCode != 137 || end.FinishedAt.IsZero() {
		t.Errorf("end %+v", end)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

// Create has the task made ahead of its start. Whatever becomes of it before, the container can be started or removed.
func TestTaskMadeAhead(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("44444444-aaaa-4bbb-8ccc-000000000009", nil)
	c.Command = []string{"sleep", "1000"}
	id, err := n.run.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if ahead := n.observed(c.PodUID, id, pod.Created); ahead.PID == 0 {
		t.Error("no task was made")
	}
	for _, pid := range n.daemon.Shims() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	testwait.Until(t, "the shims end", func() bool { return len(n.daemon.Shims()) == 0 })
	// containerd answers that the shim is away until it has cleaned up.
	testwait.Until(t, "an answer to the start", func() bool {
		err = n.run.Start(t.Context(), id)
		return !errors.Is(err, fault.ErrUnavailable)
	})
	if err != nil {
		t.Fatalf("start after the shim died: %v", err)
	}
	n.observed(c.PodUID, id, pod.Running)

	c.Attempt = 1
	id, err = n.run.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	n.observed(c.PodUID, id, pod.Created)
	if err := n.run.Remove(t.Context(), id); err != nil {
		t.Fatalf("remove what was never started: %v", err)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func TestShimsAreShared(t *testing.T) {
	for _, test := range []struct {
		perShim, pods, privileged, shims int
	}{{perShim: 1, pods: 3, shims: 3}, {perShim: 2, pods: 4, shims: 2}, {perShim: 10, pods: 3, privileged: 1, shims: 2}} {
		t.Run(fmt.Sprintf("%d per shim", test.perShim), func(t *testing.T) {
			n := newNode(t, func(c *Config) { c.PodsPerShim = test.perShim })
			var uids []types.UID
			for i := range test.pods {
				c := n.testPod(types.UID(fmt.Sprintf("5555555%d-aaaa-4bbb-8ccc-000000000005", i)), nil)
				if i < test.privileged {
					c.Security = &v1.SecurityContext{Privileged: ptr.To(true)}
				}
				for _, name := range []string{"a", "b"} {
					c.Name, c.Command, c.LogPath = name, []string{"sleep", "1000"}, c.LogPath+name
					n.start(c)
				}
				uids = append(uids, c.PodUID)
				n.restart() // the assignment is read back from disk
			}
			n.shims(test.shims)
			for _, uid := range uids {
				n.remove(t.Context(), uid)
			}
			n.nothingLeft()
		})
	}
}

// Many pods at once share shims as configured, and leave nothing.
func TestManyPodsAtOnce(t *testing.T) {
	n := newNode(t, func(c *Config) { c.PodsPerShim = 5 })
	const pods = 30
	uid := func(i int) types.UID { return types.UID(fmt.Sprintf("%08x-aaaa-4bbb-8ccc-0000000000cc", i)) }
	each := func(do func(uid types.UID)) {
		var group sync.WaitGroup
		slots := make(chan struct{}, 8)
		for i := range pods {
			group.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				do(uid(i))
			})
		}
		group.Wait()
	}
	each(func(uid types.UID) {
		c := n.testPod(uid, nil)
		c.Command = []string{"sleep", "1000"}
		n.start(c)
	})
	n.shims(pods / 5)
	all, err := n.run.ObserveAll(t.Context())
	if err != nil || len(all) != pods {
		t.Errorf("%d pods are observed, %v", len(all), err)
	}
	for uid, o := range all {
		if o.Sandbox == nil || len(o.Containers) != 1 || o.Containers[0].State != pod.Running {
			t.Errorf("pod %s: %+v", uid, o)
		}
	}
	each(func(uid types.UID) { n.remove(t.Context(), uid) })
	n.nothingLeft()
}
