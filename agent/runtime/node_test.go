package runtime

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cgroup"
	"coracle/agent/image"
	"coracle/agent/logwriter"
	"coracle/agent/pod"
	"coracle/internal/testcontainerd"
	"coracle/internal/testimage"
	"coracle/internal/testlog"
	"coracle/internal/testwait"
)

// testImage is in every test node's containerd.
const testImage = "test.example/busybox:1"

var applets = []string{"sh", "sleep", "echo", "cat", "id", "ls", "hostname", "ps", "kill", "head", "tail", "dd", "true", "false", "stat", "mount", "ip", "nc", "readlink", "tty", "touch", "grep", "printf", "sysctl", "env", "pwd", "df", "stty"}

// node is a containerd, the packages of this door on it, and a log writer.
type node struct {
	t       testing.TB
	daemon  *testcontainerd.Daemon
	images  *image.Images
	cgroups *cgroup.Cgroups
	run     *Runtime
	cfg     Config
	runDir  string
	logDir  string
}

func newNode(t testing.TB, change func(*Config)) *node {
	t.Helper()
	d := testcontainerd.Start(t)
	n := &node{t: t, daemon: d, runDir: filepath.Join(d.Dir, "run"), logDir: filepath.Join(d.Dir, "logs")}
	log := slog.New(slog.NewTextHandler(testlog.Writer(t), &slog.HandlerOptions{Level: slog.LevelWarn}))
	var err error
	if n.images, err = image.New(image.Config{Address: d.Address, Namespace: "coracle", Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.images.Close() })
	root := fmt.Sprintf("/coracletest%d", os.Getpid())
	groups := cgroup.Config{Root: root, Driver: cgroup.DriverCgroupfs, Log: log}
	if os.Getenv("CORACLE_CGROUP") == cgroup.DriverSystemd { // on a machine that systemd runs
		groups.Root, groups.Driver = "", cgroup.DriverSystemd
	}
	if n.cgroups, err = cgroup.New(groups); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { removeGroups(root) })
	n.cfg = Config{Images: n.images, Namespace: "coracle", RunDir: n.runDir, Unified: n.cgroups.Unified(), Systemd: n.cgroups.Systemd(), Log: log}
	ociFromEnv(&n.cfg)
	if change != nil {
		change(&n.cfg)
	}
	n.restart()
	n.importImage()
	n.logWriter()
	t.Cleanup(n.removeAll)
	return n
}

// restart is what a killed agent is followed by: nothing of the old object is used any more.
func (n *node) restart() {
	n.t.Helper()
	r, err := New(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.run = r
}

func (n *node) importImage() {
	n.t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		n.t.Skip("busybox (busybox-static) is not installed")
	}
	spec := testimage.Busybox(busybox, applets)
	img, err := testimage.Build(spec)
	if err != nil {
		n.t.Fatal(err)
	}
	tag, err := name.NewTag(testImage)
	if err != nil {
		n.t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		n.t.Fatal(err)
	}
	ctx := n.run.context(n.t.Context())
	if _, err := n.run.client.Import(ctx, &archive); err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.images.Ensure(n.t.Context(), image.Request{Ref: testImage, Policy: v1.PullNever}); err != nil {
		n.t.Fatal(err)
	}
}

// logWriter runs one until the test ends.
func (n *node) logWriter() {
	n.t.Helper()
	w, err := logwriter.New(logwriter.Config{IODir: n.run.ioDir(), Socket: filepath.Join(n.runDir, "log.sock"), Log: n.cfg.Log})
	if err != nil {
		n.t.Fatal(err)
	}
	testwait.Run(n.t, "the log writer", w.Run)
}

func (n *node) removeAll() {
	ctx := context.Background()
	all, err := n.run.ObserveAll(ctx)
	if err != nil {
		n.t.Logf("clean up: %v", err)
	}
	for uid := range all {
		n.remove(ctx, uid)
	}
}

func (n *node) remove(ctx context.Context, uid types.UID) {
	n.t.Helper()
	o, err := n.run.Observe(ctx, uid)
	if err != nil {
		n.t.Errorf("observe %s: %v", uid, err)
	}
	for _, c := range o.Containers {
		if err := n.run.Remove(ctx, c.ID); err != nil {
			n.t.Errorf("remove %s: %v", c.ID, err)
		}
	}
	if err := n.run.RemoveSandbox(ctx, uid); err != nil {
		n.t.Errorf("remove sandbox %s: %v", uid, err)
	}
	testwait.Nil(n.t, "remove the cgroup", func() error { return n.cgroups.RemovePod(ctx, uid) }) // its processes are killed, but may be there yet
}

// testPod makes cgroup and sandbox of a pod and gives the spec of its container c, to be changed.
func (n *node) testPod(uid types.UID, change func(*SandboxSpec)) pod.ContainerSpec {
	n.t.Helper()
	ctx := n.t.Context()
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid, Namespace: "default", Name: "p-" + string(uid)}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "c"}}}}
	parent, err := n.cgroups.EnsurePod(ctx, p)
	if err != nil {
		n.t.Fatal(err)
	}
	spec := SandboxSpec{UID: uid, Namespace: p.Namespace, Name: p.Name, Hostname: p.Name, CgroupParent: parent}
	if change != nil {
		change(&spec)
	}
	if _, err := n.run.EnsureSandbox(ctx, spec); err != nil {
		n.t.Fatal(err)
	}
	return pod.ContainerSpec{
		PodUID: uid, PodNamespace: p.Namespace, PodName: p.Name, Name: "c", Kind: pod.Main, Fingerprint: "v1:x",
		Image: testImage, Security: &v1.SecurityContext{}, CgroupParent: parent, Hostname: p.Name,
		HostNetwork: spec.HostNetwork, HostPID: spec.HostPID, HostIPC: spec.HostIPC, ShareProcessNamespace: spec.ShareProcessNamespace,
		LogPath: filepath.Join(n.logDir, string(uid), "c", "0.log"),
	}
}

func (n *node) start(c pod.ContainerSpec) string {
	n.t.Helper()
	id, err := n.run.Create(n.t.Context(), c)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.run.Start(n.t.Context(), id); err != nil {
		n.t.Fatal(err)
	}
	return id
}

// observed waits until the container is in a state.
func (n *node) observed(uid types.UID, id string, state pod.State) pod.Container {
	n.t.Helper()
	var found pod.Container
	testwait.Until(n.t, fmt.Sprintf("container %s gets into state %v", id, state), func() bool {
		o, err := n.run.Observe(n.t.Context(), uid)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, c := range o.Containers {
			if c.ID == id && c.State == state {
				found = c
				return true
			}
		}
		return false
	})
	return found
}

// output runs a shell line as the container's command and gives what it wrote, with its end.
func (n *node) output(c pod.ContainerSpec, line string) (string, pod.Container) {
	n.t.Helper()
	c.Command = []string{"sh", "-c", line}
	id := n.start(c)
	end := n.observed(c.PodUID, id, pod.Exited)
	ctx, cancel := context.WithTimeout(n.t.Context(), testwait.Patience)
	defer cancel()
	if err := logwriter.Drain(ctx, n.cfg.LogSocketPath(), id); err != nil {
		n.t.Fatal(err)
	}
	return readLog(n.t, c.LogPath), end
}

// readLog gives a CRI log without its prefixes.
func readLog(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return lastLines(string(data), 1<<20, 1<<30)
}

// LogSocketPath is where the log writer listens.
func (c Config) LogSocketPath() string {
	if c.LogSocket != "" {
		return c.LogSocket
	}
	return filepath.Join(c.RunDir, "log.sock")
}

// removeGroups removes a test's own root group, which must be empty of processes.
func removeGroups(root string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + root)
	for _, dir := range append(dirs, "/sys/fs/cgroup"+root) {
		for _, sub := range []string{"coracle/burstable", "coracle/besteffort", "coracle", ""} {
			_ = os.Remove(filepath.Join(dir, sub))
		}
	}
}
