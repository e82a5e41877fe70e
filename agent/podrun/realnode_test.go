package podrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"coracle/agent/cgroup"
	"coracle/agent/cni"
	"coracle/agent/image"
	"coracle/agent/logwriter"
	"coracle/agent/runtime"
	"coracle/agent/status"
	"coracle/agent/store"
	"coracle/agent/volume"
	"coracle/internal/testcontainerd"
	"coracle/internal/testimage"
	"coracle/internal/testwait"
)

const (
	insideEnv  = "CORACLE_PODRUN_TEST_NODE"
	realImage  = "test.example/busybox:1"
	pluginsDir = "/usr/lib/cni"
)

// TestMain runs the binary again inside a network and a mount namespace of its own, which
// play the node, so that whatever a pod does to links, addresses and mounts goes with it.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			fmt.Fprintln(os.Stderr, "run the tests in namespaces:", err)
		}
		os.Exit(1)
	}
	os.Exit(0)
}

// realNode is podrun on its real doors: a containerd, CNI plugins, cgroups, mounts and a store.
type realNode struct {
	t       testing.TB
	dir     string
	daemon  *testcontainerd.Daemon
	store   *store.Store
	images  *image.Images
	runtime *runtime.Runtime
	network *cni.CNI
	volumes *volume.Volumes
	cgroups *cgroup.Cgroups
	outbox  *status.Outbox
	log     *slog.Logger
	logText *syncBuffer
	version int
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newRealNode(t testing.TB) *realNode {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Skip("a real node needs root")
	}
	if _, err := os.Stat(filepath.Join(pluginsDir, "bridge")); err != nil {
		t.Skip("the package containernetworking-plugins is not installed")
	}
	d := testcontainerd.Start(t)
	n := &realNode{t: t, dir: d.Dir, daemon: d, logText: &syncBuffer{}}
	n.log = slog.New(slog.NewTextHandler(n.logText, nil))
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n.store, err = store.Open(filepath.Join(n.dir, "store.db"), n.log)
	check()
	t.Cleanup(func() { _ = n.store.Close() })
	n.images, err = image.New(image.Config{Address: d.Address, Namespace: "coracle", Log: n.log})
	check()
	t.Cleanup(func() { _ = n.images.Close() })
	root := fmt.Sprintf("coraclerun%d", os.Getpid())
	n.cgroups, err = cgroup.New(cgroup.Config{Root: root, Driver: cgroup.DriverCgroupfs, Log: n.log})
	check()
	t.Cleanup(func() {
		testwait.Nil(t, "remove the test's cgroups", func() error { return n.cgroups.RemoveTree(context.Background()) })
	})
	n.network, err = cni.New(cni.Config{
		ConfDir: filepath.Join(n.dir, "net.d"), BinDirs: []string{pluginsDir}, CacheDir: filepath.Join(n.dir, "cni"), RunDir: filepath.Join(n.dir, "cnirun"),
		Own: cni.Own{File: "90-test.conflist", Bridge: "crt0", MTU: 1400, PodCIDRs: []string{"10.99.7.0/24"}},
	})
	check()
	err = n.network.SetOwn(cni.Own{File: "90-test.conflist", Bridge: "crt0", MTU: 1400, PodCIDRs: []string{"10.99.7.0/24"}})
	check()
	n.volumes, err = volume.New(volume.Config{RootDir: filepath.Join(n.dir, "kubelet"), Log: n.log})
	check()
	n.newRuntime()
	n.importImage()
	n.logWriter()
	n.outbox, err = status.NewOutbox(n.store, n.log)
	check()
	return n
}

// newRuntime makes the door anew, as a killed agent's successor does.
func (n *realNode) newRuntime() {
	n.t.Helper()
	r, err := runtime.New(runtime.Config{Images: n.images, Namespace: "coracle", RunDir: filepath.Join(n.dir, "run"), Unified: n.cgroups.Unified(), Log: n.log})
	if err != nil {
		n.t.Fatal(err)
	}
	n.runtime = r
}

func (n *realNode) importImage() {
	n.t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		n.t.Skip("busybox (busybox-static) is not installed")
	}
	img, err := testimage.Build(testimage.Busybox(busybox, []string{"sh", "sleep", "echo", "cat", "env", "true", "false", "hostname"}))
	if err != nil {
		n.t.Fatal(err)
	}
	tag, err := name.NewTag(realImage)
	if err != nil {
		n.t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		n.t.Fatal(err)
	}
	path := filepath.Join(n.dir, "image.tar")
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		n.t.Fatal(err)
	}
	if out, err := exec.Command("ctr", "--address", n.daemon.Address, "-n", "coracle", "images", "import", path).CombinedOutput(); err != nil {
		n.t.Fatalf("import image: %v: %s", err, out)
	}
}

func (n *realNode) logWriter() {
	n.t.Helper()
	run := filepath.Join(n.dir, "run")
	w, err := logwriter.New(logwriter.Config{IODir: filepath.Join(run, "io"), Socket: filepath.Join(run, "log.sock"), Log: n.log})
	if err != nil {
		n.t.Fatal(err)
	}
	n.background(w.Run)
}

// background runs f until the test ends, or until the returned function is called.
func (n *realNode) background(f func(context.Context) error) (stop func()) {
	return testwait.Run(n.t, "a part of the agent", func(ctx context.Context) error {
		if err := f(ctx); ctx.Err() == nil {
			return err
		}
		return nil
	})
}

// agent runs podrun and the runtime's events until stop is called.
func (n *realNode) agent(change ...func(*Config)) (r *Runner, stop func()) {
	n.t.Helper()
	cfg := Config{
		Store: n.store, Runtime: n.runtime, Images: n.images, Network: n.network, Volumes: n.volumes, Cgroups: n.cgroups,
		Outbox: n.outbox, Events: status.NewRecorder(n.outbox, "coracle-agent", "node-1", time.Now), Log: n.log,
		NodeName: "node-1", LogDir: filepath.Join(n.dir, "logs"), HostIPs: func() []string { return []string{"192.0.2.1"} },
		MemoryBytes: 4 << 30,
	}
	for _, f := range change {
		f(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	events, pods := n.background(n.runtime.Run), n.background(r.Run)
	return r, func() { pods(); events() }
}

func (n *realNode) assign(p *v1.Pod) {
	n.t.Helper()
	n.version++
	p.ResourceVersion = fmt.Sprint(n.version)
	data, err := p.Marshal()
	if err != nil {
		n.t.Fatal(err)
	}
	err = n.store.Apply(store.Batch{Put: []store.Object{{
		Kind: store.KindPod, UID: string(p.UID), Namespace: p.Namespace, Name: p.Name, ResourceVersion: p.ResourceVersion, Data: data,
	}}, Complete: true})
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *realNode) remove(p *v1.Pod) {
	n.t.Helper()
	if err := n.store.DeleteObject(store.Key{Kind: store.KindPod, Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *realNode) delete(p *v1.Pod, grace int64) {
	n.t.Helper()
	p = p.DeepCopy()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second)}, &grace
	n.assign(p)
}

// await waits until the pod's status is as wanted.
func (n *realNode) await(uid types.UID, what string, ok func(s v1.PodStatus, released bool) bool) v1.PodStatus {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(testwait.Patience)
	for {
		s, released, known := n.outbox.Last(uid)
		if known && ok(s, released) {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			n.t.Fatalf("pod %s is not %s after %s: %+v\n%s", uid, what, testwait.Patience, s, n.logText)
		}
	}
}

func isReady(s v1.PodStatus, _ bool) bool {
	return slices.ContainsFunc(s.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.PodReady && c.Status == v1.ConditionTrue })
}

func isReleased(_ v1.PodStatus, released bool) bool { return released }

// gone waits until the runner knows no pod, and reports what the node still holds.
func (n *realNode) gone(r *Runner) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(testwait.Patience)
	for len(r.Snapshot()) > 0 {
		select {
		case <-tick.C:
		case <-deadline:
			n.t.Fatalf("still known: %+v\n%s", r.Snapshot(), n.logText)
		}
	}
	ctx := context.Background()
	if all, err := n.runtime.ObserveAll(ctx); err != nil || len(all) > 0 {
		n.t.Errorf("containers or sandboxes left: %v %v", all, err)
	}
	if list, err := n.network.Attached(ctx); err != nil || len(list) > 0 {
		n.t.Errorf("attachments left: %v %v", list, err)
	}
	if list, err := n.volumes.Pods(ctx); err != nil || len(list) > 0 {
		n.t.Errorf("volumes left: %v %v", list, err)
	}
	if list, err := n.cgroups.Pods(ctx); err != nil || len(list) > 0 {
		n.t.Errorf("cgroups left: %v %v", list, err)
	}
	if facts := n.store.Facts(factsBucket); len(facts) > 0 {
		n.t.Errorf("facts left: %v", facts)
	}
	if logs, _ := filepath.Glob(filepath.Join(n.dir, "logs", "*")); len(logs) > 0 {
		n.t.Errorf("logs left: %v", logs)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, n.dir) {
			n.t.Errorf("mount left: %s", line)
		}
	}
}

func realPod(i int, containers ...v1.Container) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("pod-%d", i), Namespace: "default", UID: types.UID(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i+1)), Generation: 1},
		Spec:       v1.PodSpec{RestartPolicy: v1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr.To[int64](1), Containers: containers, DNSPolicy: v1.DNSDefault},
	}
}

func busybox(name, line string) v1.Container {
	return v1.Container{Name: name, Image: realImage, ImagePullPolicy: v1.PullNever, Command: []string{"sh", "-c", line}}
}
