package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"coracle/internal/testimage"
)

// smallDisk mounts an ext4 of so many MB and takes it away at the test's end.
func smallDisk(t *testing.T, mb int64) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, mb<<20); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if _, err := output(nil, "", argv...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := eventually(10*time.Second, func() error { _, err := output(nil, "", "umount", dir); return err }); err != nil {
			t.Error(err) // a process that has just ended may hold it a moment longer
		}
	})
	return dir
}

// addNode runs one more node of the cluster on this machine, with its state below dir, and takes it away at the end.
func (c *cluster) addNode(t *testing.T, name, dir string) *cluster {
	t.Helper()
	n := &cluster{dir: filepath.Join(dir, "node"), node: name, kubeconfig: c.kubeconfig, registry: c.registry, image: c.image, apiPort: c.apiPort, gwPort: c.gwPort}
	if err := os.Mkdir(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("node %s:\n%s", name, n.logTails(40))
		}
		left, err := n.down()
		if err != nil {
			t.Errorf("taking node %s down: %v", name, err)
		}
		for _, l := range left {
			t.Errorf("left behind: %s", l)
		}
		if _, err := c.kubectl("delete", "node", name); err != nil {
			t.Error(err)
		}
	})
	if err := n.layOutNode(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	token, err := c.token("token")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := c.token("ca-hash")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := output(nil, "", binary("coracle-agent"), "join", "--config", filepath.Join(n.dir, "agent.yaml"), "--token", token, "--ca-hash", hash); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{n.containerd, n.logs, n.agent} {
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.waitNodeReady(60 * time.Second); err != nil {
		t.Fatalf("%v\n%s", err, n.logTails(20))
	}
	return n
}

// fill writes into a file below dir until not one more block fits, and returns the file.
func fill(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 4096; size /= 4 {
		block := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// TestFullDisk fills the disk that a node has everything on. What runs goes on; what is new waits and says why; when
// there is room again, all of it comes up by itself and nothing was lost.
func TestFullDisk(t *testing.T) {
	s := newSpace(t)
	disk := smallDisk(t, 192)
	n := s.addNode(t, "small-disk", disk)
	on := func(manifest string) string {
		return strings.Replace(manifest, "spec:\n", "spec:\n  nodeName: small-disk\n", 1)
	}
	node := &space{cluster: n, t: t, name: s.name} // asks this node's containerd
	spec := testimage.Busybox("/bin/busybox", []string{"sh", "sleep"})
	spec.Files["/big"] = testimage.File{Content: "x", Size: 8 << 20}
	if err := testimage.Push(t.Context(), s.registry+"/large:1", spec); err != nil {
		t.Fatal(err)
	}

	s.apply(on(s.busybox("runner", "while :; do date +%s; sleep 0.2; done")))
	s.waitReady("runner")
	pid := node.containerPID(s.pod("runner"), "main")

	filler := fill(t, disk)
	t.Cleanup(func() { _ = os.Remove(filler) }) // a node is taken down with room on its disk
	s.apply(on(s.busybox("late", sleeper)))
	s.apply(on(strings.Replace(s.busybox("pulling", sleeper), s.image, s.registry+"/large:1", 1)))
	for _, name := range []string{"late", "pulling"} {
		var out string
		s.eventually(60*time.Second, func() error {
			out = s.do("get", "events", "--field-selector", "involvedObject.name="+name, "-o", "jsonpath={.items[*].message}")
			if !strings.Contains(out, "no space left on device") {
				return fmt.Errorf("with a full disk the events of pod %s are: %s", name, out)
			}
			return nil
		})
		t.Logf("events of pod %s: %s", name, out)
	}
	p := s.pod("runner")
	if got := node.containerPID(p, "main"); got != pid || p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Errorf("with a full disk the container has PID %s, had %s: %+v", got, pid, p.Status.ContainerStatuses[0])
	}
	if n.agent.exited() || n.logs.exited() {
		t.Errorf("agent or log writer ended because the disk was full:\n%s", n.logTails(10))
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"late", "pulling"} { // within the longest back-off of this short time
		s.do("wait", "--for=condition=Ready", "pod/"+name, "--timeout=120s")
	}
	restart(t, n.agent)
	if err := n.waitNodeReady(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.eventually(30*time.Second, func() error { _, err := s.kubectl("exec", "runner", "--", "true"); return err })
	if got := node.containerPID(s.pod("runner"), "main"); got != pid {
		t.Errorf("afterwards the container has PID %s, had %s", got, pid)
	}
	if log, err := os.ReadFile(n.agent.log); err != nil || strings.Contains(string(log), "damaged") {
		t.Errorf("the full disk damaged the store (%v):\n%s", err, log)
	}
	// Lines are written again; those of the time in between may be missing, but none is cut or out of order.
	last := ""
	for line := range strings.Lines(s.do("logs", "runner")) {
		if line = strings.TrimSpace(line); len(line) != len("1700000000") || line < last {
			t.Errorf("log line %q after %q", line, last)
		}
		last = line
	}
	s.do("delete", "pod", "runner", "late", "pulling", "--timeout=60s")
}

// TestFullDiskOfTheControlPlane fills the disk that etcd writes to. What was acknowledged is there afterwards.
func TestFullDiskOfTheControlPlane(t *testing.T) {
	disk := smallDisk(t, 96)
	c := newPlane(t, "small-disk", "--data-dir", filepath.Join(disk, "controlplane"))
	c.serve(t)
	create := func(name string) error {
		_, err := c.kubectlStdin(fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"a":%q}}`, name, strings.Repeat("x", 200<<10)),
			"create", "--raw", "/api/v1/namespaces/default/configmaps?timeout=30s", "-f", "-")
		return err
	}
	const acknowledged = 5
	for i := range acknowledged {
		if err := create(fmt.Sprintf("kept-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	filler := fill(t, disk)
	// etcd ends the process when it cannot write, and a start says why it cannot be. What was claimed before may still
	// have room for some.
	more := 0
	if err := eventually(60*time.Second, func() error {
		if c.control.exited() {
			return nil
		}
		more++
		return fmt.Errorf("with %d more objects the control plane runs on a full disk: %w", more, create(fmt.Sprintf("more-%d", more)))
	}); err != nil {
		t.Fatal(err)
	}
	if more > 100 {
		t.Errorf("%d objects were stored on a full disk", more)
	}
	if log := c.control.tail(10); !strings.Contains(log, "no space left on device") {
		t.Errorf("the control plane ended with these words:\n%s", log)
	}
	if err := c.control.start(); err != nil {
		t.Fatal(err)
	}
	if err := c.control.wait(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	if log := c.control.tail(1); !strings.Contains(log, "full disk") {
		t.Errorf("a start on a full disk said:\n%s", log)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.serve(t)
	for i := range acknowledged {
		if _, err := c.kubectl("get", "configmap", fmt.Sprintf("kept-%d", i), "-o", "name"); err != nil {
			t.Errorf("an object that was acknowledged is lost: %v", err)
		}
	}
	if err := create("after"); err != nil {
		t.Error(err)
	}
}
