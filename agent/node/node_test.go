package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
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

	"coracle/agent/config"
	"coracle/agent/logwriter"
	"coracle/agent/store"
	"coracle/internal/testcontainerd"
	"coracle/internal/testimage"
	"coracle/internal/testlog"
	"coracle/internal/testwait"
)

const (
	insideEnv = "CORACLE_NODE_TEST_INSIDE"
	busyImage = "test.example/busybox:1"
)

// TestMain runs the tests in namespaces of their own that play the machine.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case !errors.As(err, &exit):
		fmt.Fprintln(os.Stderr, "run the tests in namespaces:", err)
	}
	os.Exit(1)
}

// machine is one on which an agent has joined a control plane that is not there any more.
type machine struct {
	t      *testing.T
	daemon *testcontainerd.Daemon
	cfg    config.Config
	log    *slog.Logger
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Skip("a node needs root")
	}
	if _, err := os.Stat("/usr/lib/cni/bridge"); err != nil {
		t.Skip("the package containernetworking-plugins is not installed")
	}
	d := testcontainerd.Start(t)
	m := &machine{t: t, daemon: d, log: slog.New(slog.NewTextHandler(testlog.Writer(t), &slog.HandlerOptions{Level: slog.LevelInfo}))}
	cfg := config.Default()
	cfg.StateDir, cfg.RootDir, cfg.RunDir, cfg.LogDir = filepath.Join(d.Dir, "state"), filepath.Join(d.Dir, "kubelet"), filepath.Join(d.Dir, "run"), filepath.Join(d.Dir, "logs")
	cfg.Containerd.Socket = d.Address
	cfg.CNI.ConfDir, cfg.CNI.BinDirs, cfg.CNI.Bridge = filepath.Join(d.Dir, "net.d"), []string{"/usr/lib/cni"}, "cnode0"
	cfg.CgroupDriver, cfg.CgroupRoot = "cgroupfs", fmt.Sprintf("/coraclenodetest%d", os.Getpid())
	// How full the disk of this machine is must not matter.
	cfg.EvictionHard = map[string]string{"nodefs.available": "0", "nodefs.inodesFree": "0", "imagefs.available": "0", "imagefs.inodesFree": "0"}
	cfg.Server = "127.0.0.1:1" // nobody listens there, least of all in this namespace
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	m.cfg = cfg
	m.join()
	m.importImage()
	t.Cleanup(m.removeGroups)
	return m
}

// join puts an identity in place, as a control plane would have given it.
func (m *machine) join() {
	m.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "system:node:island", Organization: []string{"system:nodes"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		m.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), cert...)
	write(m.t, filepath.Join(m.cfg.IdentityDir(), "node.pem"), pair)
	write(m.t, filepath.Join(m.cfg.IdentityDir(), "ca.pem"), cert)
}

func (m *machine) importImage() {
	m.t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		m.t.Skip("busybox (busybox-static) is not installed")
	}
	img, err := testimage.Build(testimage.Busybox(busybox, []string{"sh", "sleep", "cat", "echo", "ip", "grep"}))
	if err != nil {
		m.t.Fatal(err)
	}
	tag, err := name.NewTag(busyImage)
	if err != nil {
		m.t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command("ctr", "-a", m.daemon.Address, "-n", "coracle", "images", "import", "-")
	cmd.Stdin = &archive
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("ctr import: %v: %s", err, out)
	}
}

func (m *machine) removeGroups() {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + m.cfg.CgroupRoot)
	for _, dir := range append(dirs, "/sys/fs/cgroup"+m.cfg.CgroupRoot) {
		for _, sub := range []string{"coracle/burstable", "coracle/besteffort", "coracle", ""} {
			_ = os.Remove(filepath.Join(dir, sub))
		}
	}
}

// assign puts objects into the store as a session would have, before the power went.
func (m *machine) assign(pods ...*v1.Pod) {
	m.t.Helper()
	s, err := store.Open(m.cfg.StorePath(), m.log)
	if err != nil {
		m.t.Fatal(err)
	}
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "island", UID: "node-uid"}, Spec: v1.NodeSpec{PodCIDR: "10.98.0.0/24", PodCIDRs: []string{"10.98.0.0/24"}}}
	cm := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cfg", UID: "cfg-uid"}, Data: map[string]string{"greeting": "ahoy"}}
	batch := store.Batch{Complete: true}
	add := func(kind string, meta metav1.ObjectMeta, marshal func() ([]byte, error)) {
		data, err := marshal()
		if err != nil {
			m.t.Fatal(err)
		}
		batch.Put = append(batch.Put, store.Object{Kind: kind, UID: string(meta.UID), Namespace: meta.Namespace, Name: meta.Name, ResourceVersion: "1", Data: data})
	}
	add(store.KindNode, node.ObjectMeta, node.Marshal)
	add(store.KindConfigMap, cm.ObjectMeta, cm.Marshal)
	for _, p := range pods {
		add(store.KindPod, p.ObjectMeta, p.Marshal)
	}
	if err := errors.Join(s.Apply(batch), s.Close()); err != nil {
		m.t.Fatal(err)
	}
}

// start runs an agent until stop is called.
func (m *machine) start() (n *Node, stop func()) {
	m.t.Helper()
	journal := NewJournal(m.log.Handler())
	n, err := New(m.cfg, slog.New(journal), journal)
	if err != nil {
		m.t.Fatal(err)
	}
	end := testwait.Run(m.t, "the agent", func(ctx context.Context) error { return n.Run(ctx, nil) })
	stop = sync.OnceFunc(func() {
		end()
		if err := n.Close(); err != nil {
			m.t.Error(err)
		}
	})
	m.t.Cleanup(stop)
	return n, stop
}

func (m *machine) logWriter() {
	m.t.Helper()
	w, err := logwriter.New(logwriter.Config{IODir: filepath.Join(m.cfg.RunDir, "io"), Socket: m.cfg.LogSocket(), Log: m.log})
	if err != nil {
		m.t.Fatal(err)
	}
	testwait.Run(m.t, "the log writer", w.Run)
}

func web() *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "0f000000-1111-2222-3333-444444444444"},
		Spec: v1.PodSpec{
			NodeName: "island", RestartPolicy: v1.RestartPolicyAlways, DNSPolicy: v1.DNSClusterFirst,
			EnableServiceLinks: new(bool),
			Volumes:            []v1.Volume{{Name: "cfg", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cfg"}}}}},
			Containers: []v1.Container{{
				Name: "c", Image: busyImage, ImagePullPolicy: v1.PullNever, TerminationMessagePolicy: v1.TerminationMessageReadFile,
				Command:      []string{"sh", "-c", "cat /cfg/greeting; echo; ip addr show eth0; cat /etc/hosts; sleep 1000"},
				VolumeMounts: []v1.VolumeMount{{Name: "cfg", MountPath: "/cfg"}},
			}},
		},
		Status: v1.PodStatus{Phase: v1.PodPending},
	}
}

// A machine that boots with no control plane in reach starts its pods from its own store; an
// agent that goes away leaves them alone and the next one takes them up; reset leaves nothing.
func TestIsland(t *testing.T) {
	m := newMachine(t)
	m.logWriter()
	pod := web()
	m.assign(pod)
	n, stop := m.start()
	running := func(n *Node) bool {
		status, _, _ := n.outbox.Last(pod.UID)
		return status.Phase == v1.PodRunning && len(status.ContainerStatuses) == 1 && status.ContainerStatuses[0].State.Running != nil
	}
	testwait.Until(t, "the pod runs", func() bool { return running(n) })
	first := m.pid(n, pod.UID)
	status, _, _ := n.outbox.Last(pod.UID)
	if !strings.HasPrefix(status.PodIP, "10.98.0.") {
		t.Errorf("pod IP %q", status.PodIP)
	}
	logs := filepath.Join(m.cfg.LogDir, "default_web_"+string(pod.UID), "c", "0.log")
	testwait.Until(t, "the log has the last file", func() bool {
		data, _ := os.ReadFile(logs)
		return strings.Contains(string(data), status.PodIP+"\tweb")
	})
	data, err := os.ReadFile(logs)
	if err != nil || !strings.Contains(string(data), "ahoy") || !strings.Contains(string(data), "inet "+status.PodIP+"/24") {
		t.Errorf("log %v:\n%s", err, data)
	}
	var asked Status
	testwait.Nil(t, "the status socket tells of all this", func() error {
		asked, err = AskStatus(t.Context(), m.cfg.StatusSocket())
		if err == nil && (asked.Node != "island" || len(asked.Pods) != 1 || asked.Pods[0].Containers["c"] != "running" || asked.Connection.Connected || asked.LogWriter != "running" || !asked.Ready) {
			err = fmt.Errorf("status %+v", asked)
		}
		return err
	})
	if err := asked.Print(testlog.Writer(t), time.Now()); err != nil {
		t.Error(err)
	}

	m.flush()
	stop()
	if !alive(first) {
		t.Fatal("the container ended with the agent")
	}
	n, stop = m.start()
	testwait.Until(t, "the pod runs", func() bool { return running(n) })
	if second := m.pid(n, pod.UID); second != first {
		t.Errorf("process %d became %d over a restart of the agent", first, second)
	}
	if err := Reset(t.Context(), m.cfg, m.log); !errors.Is(err, store.ErrInUse) {
		t.Errorf("reset beside a running agent: %v", err)
	}
	stop()

	for range 2 {
		if err := Reset(t.Context(), m.cfg, m.log); err != nil {
			t.Fatal(err)
		}
	}
	if alive(first) {
		t.Error("the container outlived the reset")
	}
	for _, pattern := range []string{m.cfg.RootDir + "/pods/*", m.cfg.RunDir + "/pods/*", m.cfg.LogDir + "/*", m.cfg.CNI.ConfDir + "/*", "/sys/class/net/cnode0"} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	for _, mount := range m.daemon.Mounts() {
		if strings.HasPrefix(mount, m.cfg.RunDir) || strings.HasPrefix(mount, m.cfg.RootDir) {
			t.Errorf("still mounted: %s", mount)
		}
	}
	if shims := m.daemon.Shims(); len(shims) > 0 {
		t.Errorf("shims left: %v", shims)
	}
}

// flush reloads the firewall, which takes the rules of pods with it: they are to be back within 2 s. The quickest of several
// times counts, because what else the machine does only makes them longer.
func (m *machine) flush() {
	m.t.Helper()
	quickest := time.Hour
	for try := 0; try < 5 && quickest > 2*time.Second; try++ {
		if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
			m.t.Fatalf("flush: %v: %s", err, out)
		}
		flushed := time.Now()
		testwait.Until(m.t, "the rules are back", func() bool {
			out, err := exec.Command("nft", "list", "table", "ip", "coracle-cnode0").CombinedOutput()
			return err == nil && strings.Contains(string(out), "masquerade")
		})
		quickest = min(quickest, time.Since(flushed))
	}
	if quickest > 2*time.Second {
		m.t.Errorf("rules were back after %s at best", quickest)
	}
}

// A machine that has not joined is told what to do.
func TestNotJoined(t *testing.T) {
	cfg := config.Default()
	cfg.StateDir = t.TempDir()
	journal := NewJournal(slog.DiscardHandler)
	_, err := New(cfg, slog.New(journal), journal)
	if err == nil || !strings.Contains(err.Error(), "coracle-agent join") {
		t.Errorf("error %v", err)
	}
}

func (m *machine) pid(n *Node, uid types.UID) int {
	m.t.Helper()
	o, err := n.runtime.Observe(m.t.Context(), uid)
	if err != nil || len(o.Containers) != 1 {
		m.t.Fatalf("observe: %+v %v", o, err)
	}
	return o.Containers[0].PID
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
