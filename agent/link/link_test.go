package link

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coracle/internal/testwait"
)

const insideEnv = "CORACLE_LINK_TEST_INSIDE"

// TestMain runs the tests in namespaces of their own, whose links and mounts go with them.
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

// ip runs the ip command in the test's own namespace.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		t.Skip("changing links needs root")
	}
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// uplink makes a link up with the given addresses, and removes it when the test ends.
func uplink(t *testing.T, name string, addresses ...string) {
	t.Helper()
	ip(t, "link", "add", name, "type", "veth", "peer", "name", name+"p")
	t.Cleanup(func() { ip(t, "link", "del", name) })
	ip(t, "link", "set", name, "mtu", "1400", "up")
	ip(t, "link", "set", name+"p", "up")
	for _, a := range addresses {
		ip(t, "addr", "add", a, "dev", name, "nodad")
	}
}

func primary(t *testing.T, want string) string {
	t.Helper()
	p, ok, err := FindPrimary(want, "pods0")
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return "none"
	}
	return fmt.Sprint(p.Link.Name, p.Addresses)
}

func TestFindPrimary(t *testing.T) {
	ip(t, "link", "set", "lo", "up")
	if got := primary(t, ""); got != "none" {
		t.Errorf("on a machine without a network: %s", got)
	}
	ip(t, "link", "add", "pods0", "type", "bridge")
	t.Cleanup(func() { ip(t, "link", "del", "pods0") })
	ip(t, "link", "set", "pods0", "up")
	ip(t, "addr", "add", "10.244.0.1/24", "dev", "pods0")
	if got := primary(t, ""); got != "none" {
		t.Errorf("the pods' bridge was taken for the node: %s", got)
	}
	uplink(t, "la", "192.0.2.10/24", "fd00:a::10/64")
	uplink(t, "lb", "198.51.100.10/24", "198.51.100.11/24")
	if got := primary(t, ""); got != "la[192.0.2.10 fd00:a::10]" {
		t.Errorf("without a default route: %s", got)
	}
	ip(t, "route", "add", "default", "via", "198.51.100.1", "dev", "lb", "metric", "50", "src", "198.51.100.11")
	ip(t, "route", "add", "default", "via", "192.0.2.1", "dev", "la", "metric", "100")
	for want, got := range map[string]string{
		"lb[198.51.100.11]": primary(t, ""), "la[192.0.2.10 fd00:a::10]": primary(t, "la"),
		"la[fd00:a::10]": primary(t, "fd00:a::10"), "none": primary(t, "203.0.113.1"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if p, _, err := FindPrimary("", ""); err != nil || p.Link.MTU != 1400 {
		t.Errorf("MTU %d %v", p.Link.MTU, err)
	}
}

func TestWatch(t *testing.T) {
	uplink(t, "lw", "192.0.2.20/24")
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	// The subscription begins at a moment that cannot be seen from here, so the change is made until it is noticed.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(testwait.Patience)
	add := true
	for seen := false; !seen; {
		verb := map[bool]string{true: "add", false: "del"}[add]
		ip(t, "addr", verb, "192.0.2.21/24", "dev", "lw")
		add = !add
		select {
		case <-changed:
			seen = true
		case <-tick.C:
		case <-deadline:
			t.Fatal("no change was seen")
		}
	}
	cancel()
	if err := testwait.Receive(t, "Watch is to end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestInsideNamespaces(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("namespaces need root")
	}
	path := filepath.Join(t.TempDir(), "ns")
	if _, err := LinksIn(path); !errors.Is(err, ErrNotFound) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LinksIn(path); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file that is no namespace: %v", err)
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- err
			return
		}
		failed <- unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(path, unix.MNT_DETACH) }()
	for range 2 {
		if err := Up(path, "lo"); err != nil {
			t.Fatal(err)
		}
	}
	links, err := LinksIn(path)
	if err != nil || len(links) != 1 || !links[0].Up {
		t.Errorf("links %+v %v", links, err)
	}
	if err := Up(path, "eth7"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a link that is not there: %v", err)
	}
}

func TestRemoveBridge(t *testing.T) {
	ip(t, "link", "add", "br7", "type", "bridge")
	for _, port := range []string{"pa", "pb"} {
		ip(t, "link", "add", port, "type", "veth", "peer", "name", port+"p")
		ip(t, "link", "set", port, "master", "br7")
	}
	uplink(t, "stays", "192.0.2.30/24")
	for range 2 {
		if err := RemoveBridge("br7"); err != nil {
			t.Fatal(err)
		}
	}
	links, err := Links()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, l := range links {
		names[l.Name] = true
	}
	if names["br7"] || names["pa"] || names["pb"] || names["pap"] || !names["stays"] {
		t.Errorf("links left: %v", names)
	}
}

func TestTry(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("namespaces need root")
	}
	if err := Try(); err != nil {
		t.Error(err)
	}
	links, err := Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == "try-bridge" {
			t.Error("what was tried is left")
		}
	}
}
