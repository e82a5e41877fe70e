package cni

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/link"
	"coracle/internal/testwait"
)

func newCNI(t testing.TB, dir, bridge string) *CNI {
	t.Helper()
	c, err := New(Config{
		ConfDir: filepath.Join(dir, "net.d"), BinDirs: []string{debianCNI}, CacheDir: filepath.Join(dir, "cache"),
		RunDir: filepath.Join(dir, "run"), Own: Own{File: "90-coracle.conflist", Bridge: bridge}, Parallel: 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func own(t testing.TB, c *CNI, bridge, cidr string) {
	t.Helper()
	err := c.SetOwn(Own{File: "90-coracle.conflist", Bridge: bridge, MTU: 1400, PodCIDRs: []string{cidr}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPodLife(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct0")
	if err := c.Ready(); !errors.Is(err, ErrNotReady) {
		t.Fatalf("ready without a network: %v", err)
	}
	own(t, c, "ct0", "10.99.1.0/24")
	if err := c.Ready(); err != nil {
		t.Fatal(err)
	}
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	a := Attachment{UID: "uid-1", Namespace: "default", Name: "web", NetnsPath: netns}
	first, err := c.Attach(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.IPs) != 1 || !netip.MustParsePrefix("10.99.1.0/24").Contains(netip.MustParseAddr(first.IPs[0])) {
		t.Fatalf("addresses %v", first.IPs)
	}
	links, err := link.LinksIn(netns)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]link.Link{}
	for _, l := range links {
		seen[l.Name] = l
	}
	if !seen["lo"].Up || !seen["eth0"].Up || seen["eth0"].MTU != 1400 {
		t.Errorf("links in the pod: %+v", links)
	}

	// Again, and by an agent that has just started: the same addresses, nothing done.
	for name, agent := range map[string]*CNI{"again": c, "restarted": newCNI(t, dir, "ct0")} {
		got, err := agent.Attach(ctx, a)
		if err != nil || strings.Join(got.IPs, " ") != strings.Join(first.IPs, " ") {
			t.Errorf("%s: %v %v, want %v", name, got, err, first)
		}
		if r, ok := agent.Result("uid-1"); !ok || r.IPs[0] != first.IPs[0] {
			t.Errorf("%s: result %v %v", name, r, ok)
		}
	}
	if err := c.Check(ctx, "uid-1"); err != nil {
		t.Errorf("check: %v", err)
	}

	if err := c.Detach(ctx, "uid-1", "default", "web", netns); err != nil {
		t.Fatal(err)
	}
	if err := c.Detach(ctx, "uid-1", "default", "web", netns); err != nil {
		t.Fatalf("second detach: %v", err)
	}
	nothingLeft(t, c, dir)
	if links, err := link.LinksIn(netns); err != nil || len(links) != 1 {
		t.Errorf("links left in the pod: %+v %v", links, err)
	}
}

// What kill -9 can leave: the record alone, with the plugins' work half done.
func TestKilledBetweenRecordAndResult(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct1")
	own(t, c, "ct1", "10.99.2.0/29") // 5 addresses for pods
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	a := Attachment{UID: "uid-2", Namespace: "default", Name: "web", NetnsPath: netns,
		Ports: []v1.ContainerPort{{HostPort: 18080, ContainerPort: 80}}}
	for range 8 { // more than there are addresses: each leak would count
		if _, err := c.Attach(ctx, a); err != nil {
			t.Fatal(err)
		}
		results, err := filepath.Glob(filepath.Join(dir, "cache/results/*"))
		if err != nil || len(results) != 1 {
			t.Fatalf("results %v %v", results, err)
		}
		if err := os.Remove(results[0]); err != nil {
			t.Fatal(err)
		}
		c = newCNI(t, dir, "ct1")
		if _, ok := c.Result("uid-2"); ok {
			t.Fatal("a half-made attachment counts as made")
		}
	}
	if err := c.Detach(ctx, "uid-2", "default", "web", netns); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c, dir)
}

// A namespace that went away under the attachment: a reboot, or somebody's umount.
func TestNamespaceLost(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct2")
	own(t, c, "ct2", "10.99.3.0/24")
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	a := Attachment{UID: "uid-3", Namespace: "default", Name: "web", NetnsPath: netns}
	if _, err := c.Attach(ctx, a); err != nil {
		t.Fatal(err)
	}
	// Held open it stays with its link for a while, as every namespace does on a busy machine.
	dying, err := os.Open(netns)
	if err != nil {
		t.Fatal(err)
	}
	defer dying.Close()
	if err := unix.Unmount(netns, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Result("uid-3"); ok {
		t.Error("attached to a namespace that is gone")
	}
	newNetns(t, netns)
	if _, err := c.Attach(ctx, a); err != nil {
		t.Fatal(err)
	}
	if !stillThere(netns, c.known["uid-3"].result) {
		t.Error("the new namespace was not attached")
	}
	if err := unix.Unmount(netns, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := c.Detach(ctx, "uid-3", "default", "web", netns); err != nil {
		t.Fatalf("detach without the namespace: %v", err)
	}
	nothingLeft(t, c, dir)
}

func TestGC(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct3")
	own(t, c, "ct3", "10.99.4.0/24")
	for i := range 3 {
		netns := filepath.Join(dir, fmt.Sprint("netns", i))
		newNetns(t, netns)
		uid := types.UID(fmt.Sprint("uid-gc-", i))
		if _, err := c.Attach(ctx, Attachment{UID: uid, Namespace: "default", Name: fmt.Sprint("p", i), NetnsPath: netns}); err != nil {
			t.Fatal(err)
		}
	}
	// One record is lost to a bad disk: libcni's cache still tells.
	if err := os.WriteFile(c.recordPath("uid-gc-2"), []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = newCNI(t, dir, "ct3")
	if err := c.GC(ctx, []types.UID{"uid-gc-0"}); err != nil {
		t.Fatal(err)
	}
	if got, _ := c.Attached(ctx); len(got) != 1 || got[0] != "uid-gc-0" {
		t.Errorf("attached after GC: %v", got)
	}
	if err := c.GC(ctx, nil); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c, dir)
}

func TestHostPort(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct4")
	own(t, c, "ct4", "10.99.5.0/24")
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	a := Attachment{UID: "uid-hp", Namespace: "default", Name: "web", NetnsPath: netns,
		Ports: []v1.ContainerPort{{HostPort: 18081, ContainerPort: 80, Protocol: v1.ProtocolTCP}, {ContainerPort: 81}}}
	if _, err := c.Attach(ctx, a); err != nil {
		t.Fatal(err)
	}
	if !portMapped(t, 18081) {
		t.Error("host port is not mapped")
	}
	if err := c.Detach(ctx, a.UID, a.Namespace, a.Name, netns); err != nil {
		t.Fatal(err)
	}
	if portMapped(t, 18081) {
		t.Error("host port is still mapped")
	}
}

func TestManyAtOnce(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct5")
	own(t, c, "ct5", "10.99.6.0/24")
	const n = 40
	var wg sync.WaitGroup
	ips := make([]string, n)
	for i := range n {
		newNetns(t, filepath.Join(dir, fmt.Sprint("ns", i)))
		wg.Go(func() {
			r, err := c.Attach(ctx, Attachment{UID: types.UID(fmt.Sprint("m", i)), Namespace: "d", Name: fmt.Sprint("p", i), NetnsPath: filepath.Join(dir, fmt.Sprint("ns", i))})
			if err != nil {
				t.Error(err)
				return
			}
			ips[i] = r.IPs[0]
		})
	}
	testwait.End(t, "the attachments", wg.Wait)
	seen := map[string]bool{}
	for _, ip := range ips {
		if seen[ip] {
			t.Errorf("address %s was given twice", ip)
		}
		seen[ip] = true
	}
	if err := c.GC(ctx, nil); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c, dir)
}

// A conflist that an administrator puts there is used from the next pod on, without a restart,
// and pods that the old one attached are detached by the old one.
func TestHotReload(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct6")
	own(t, c, "ct6", "10.99.7.0/24")
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	if _, err := c.Attach(ctx, Attachment{UID: "old", Namespace: "d", Name: "old", NetnsPath: netns}); err != nil {
		t.Fatal(err)
	}
	foreign := `{"cniVersion":"0.3.1","name":"theirs","plugins":[{"type":"bridge","bridge":"ct7","isGateway":true,"ipam":{"type":"host-local","dataDir":"` +
		dir + `/theirs","subnet":"10.99.8.0/24"}}]}`
	if err := os.WriteFile(filepath.Join(dir, "net.d", "10-theirs.conflist"), []byte(foreign), 0o600); err != nil {
		t.Fatal(err)
	}
	netns2 := filepath.Join(dir, "netns2")
	newNetns(t, netns2)
	r, err := c.Attach(ctx, Attachment{UID: "new", Namespace: "d", Name: "new", NetnsPath: netns2})
	if err != nil || !strings.HasPrefix(r.IPs[0], "10.99.8.") {
		t.Fatalf("attached to %v %v, want the new network", r, err)
	}
	if c.Network() != "theirs" {
		t.Errorf("network %q", c.Network())
	}
	if err := c.GC(ctx, nil); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c, dir)
}

// The user sees what the plugin said.
func TestPluginError(t *testing.T) {
	needNode(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	script := "#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND = DEL ] && exit 0\necho '{\"code\": 11, \"msg\": \"the switch is on fire\", \"details\": \"port 7\"}'\nexit 1\n"
	mustWrite(t, filepath.Join(bin, "broken"), script, 0o700)
	mustWrite(t, filepath.Join(dir, "net.d", "10-x.conflist"), `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"broken"}]}`, 0o600)
	c, err := New(Config{ConfDir: filepath.Join(dir, "net.d"), BinDirs: []string{bin}, CacheDir: filepath.Join(dir, "cache"), RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	_, err = c.Attach(t.Context(), Attachment{UID: "u", Namespace: "d", Name: "n", NetnsPath: netns})
	if err == nil || !strings.Contains(err.Error(), "the switch is on fire; port 7") || !strings.Contains(err.Error(), `plugin type="broken"`) {
		t.Errorf("error %v", err)
	}
	nothingLeft(t, c, dir)
}

// A caller that gives up leaves nothing behind.
func TestCancelled(t *testing.T) {
	needNode(t)
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\necho started >" + fifo + "\nexec sleep 60\n"
	mustWrite(t, filepath.Join(bin, "slow"), script, 0o700)
	mustWrite(t, filepath.Join(dir, "net.d", "10-x.conflist"), `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"slow"}]}`, 0o600)
	c, err := New(Config{ConfDir: filepath.Join(dir, "net.d"), BinDirs: []string{bin}, CacheDir: filepath.Join(dir, "cache"), RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	done := make(chan error, 1)
	go func() {
		_, err := c.Attach(ctx, Attachment{UID: "u", Namespace: "d", Name: "n", NetnsPath: netns})
		done <- err
	}()
	testwait.End(t, "the plugin starts", func() {
		if _, err := os.ReadFile(fifo); err != nil {
			t.Error(err)
		}
	})
	cancel()
	if err := testwait.Receive(t, "Attach gives up", done); err == nil {
		t.Error("no error")
	}
	nothingLeft(t, c, dir)
}

func BenchmarkAttachDetach(b *testing.B) {
	for name, masq := range map[string]bool{"own-masquerade": false, "plugin-masquerade": true} {
		b.Run(name, func(b *testing.B) {
			needNode(b)
			dir := b.TempDir()
			c := newCNI(b, dir, "ctb")
			if err := c.SetOwn(Own{File: "90-coracle.conflist", Bridge: "ctb", PluginMasquerade: masq, PodCIDRs: []string{"10.99.9.0/24"}}); err != nil {
				b.Fatal(err)
			}
			netns := filepath.Join(dir, "netns")
			newNetns(b, netns)
			for b.Loop() {
				if _, err := c.Attach(b.Context(), Attachment{UID: "b", Namespace: "d", Name: "b", NetnsPath: netns}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := c.Detach(b.Context(), "b", "d", "b", netns); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// nothingLeft fails if a record, a result or an address lease is there.
func nothingLeft(t *testing.T, c *CNI, dir string) {
	t.Helper()
	if got, _ := c.Attached(t.Context()); len(got) > 0 {
		t.Errorf("still attached: %v", got)
	}
	for _, pattern := range []string{"cache/attachments/*.json", "cache/results/*", "run/cni/*/[0-9]*", "theirs/*/[0-9]*"} {
		left, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(left) > 0 {
			t.Errorf("left: %v %v", left, err)
		}
	}
}

func portMapped(t *testing.T, port int) bool {
	t.Helper()
	rules := run(t, "nft", "list", "ruleset")
	return strings.Contains(rules, fmt.Sprint("dport ", port))
}

func mustWrite(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}
