package shutdown

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// privateBus runs a bus of the test's own, and gives its address.
func privateBus(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("the package dbus is not installed")
	}
	config := filepath.Join(t.TempDir(), "bus.conf")
	text := `<busconfig><type>system</type><listen>unix:path=` + filepath.Join(t.TempDir(), "bus") + `</listen>
<policy context="default"><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow user="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("read the address of the bus: %v", err)
	}
	return strings.TrimSpace(line)
}

// fakeLogind answers as systemd-logind and systemd do, as far as they are asked.
type fakeLogind struct {
	t       *testing.T
	conn    *dbus.Conn
	dropIns string

	mu    sync.Mutex
	delay uint64
	locks []*os.File // our ends: at the end of the file once the other side is closed
	asked []string
}

func newLogind(t *testing.T, address string) *fakeLogind {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeLogind{t: t, conn: conn, dropIns: t.TempDir(), delay: 5_000_000}
	t.Cleanup(func() { _ = conn.Close() }) // the bus may have gone before
	for _, export := range []struct {
		methods map[string]any
		path    dbus.ObjectPath
		name    string
	}{
		{map[string]any{"Inhibit": f.inhibit}, loginPath, loginManager},
		{map[string]any{"Get": f.get}, loginPath, "org.freedesktop.DBus.Properties"},
		{map[string]any{"KillUnit": f.killUnit}, "/org/freedesktop/systemd1", systemdName + ".Manager"},
	} {
		if err := conn.ExportMethodTable(export.methods, export.path, export.name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{loginName, systemdName} {
		if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
			t.Fatalf("own %s: %v, %v", name, reply, err)
		}
	}
	return f
}

func (f *fakeLogind) inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.Join([]string{what, who, mode}, " "))
	f.locks = append(f.locks, os.NewFile(uintptr(pipe[0]), "lock"))
	// The bus sends a copy; ours is closed once it has: without it the lock could never be seen to be let go of.
	time.AfterFunc(200*time.Millisecond, func() { _ = unix.Close(pipe[1]) })
	return dbus.UnixFD(pipe[1]), nil
}

func (f *fakeLogind) get(_, property string) (dbus.Variant, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if property != "InhibitDelayMaxUSec" {
		return dbus.Variant{}, dbus.MakeFailedError(errors.New("no property " + property))
	}
	return dbus.MakeVariant(f.delay), nil
}

// killUnit reads the configuration again, if there is any.
func (f *fakeLogind) killUnit(unit, _ string, signal int32) *dbus.Error {
	data, err := os.ReadFile(filepath.Join(f.dropIns, dropIn))
	if err != nil || unit != "systemd-logind.service" || signal != int32(unix.SIGHUP) {
		return dbus.MakeFailedError(errors.New("signal to " + unit))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.Contains(string(data), "[Login]\nInhibitDelayMaxSec=30\n") {
		f.delay = 30_000_000
	}
	return nil
}

func (f *fakeLogind) prepare(begins bool) {
	f.t.Helper()
	if err := f.conn.Emit(loginPath, loginManager+".PrepareForShutdown", begins); err != nil {
		f.t.Fatal(err)
	}
}

// held says how many locks were taken, and whether the last one is held.
func (f *fakeLogind) held() (taken int, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.locks) == 0 {
		return 0, false
	}
	_ = f.locks[len(f.locks)-1].SetReadDeadline(time.Now().Add(time.Millisecond)) // a pipe takes deadlines
	_, err := f.locks[len(f.locks)-1].Read(make([]byte, 1))
	return len(f.locks), !errors.Is(err, io.EOF)
}

// podList are pods that end when they are told, but for those that hang.
type podList struct {
	mu    sync.Mutex
	pods  []*v1.Pod
	hang  types.UID
	ended []string
}

func (l *podList) Tenants() []*v1.Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pods)
}

func (l *podList) End(uid types.UID, f pod.Failed) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, string(uid)+" "+f.Reason)
	if uid != l.hang {
		l.pods = slices.DeleteFunc(l.pods, func(p *v1.Pod) bool { return p.UID == uid })
	}
	return true
}

func (l *podList) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.ended, ", ")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("after a minute: %s is not so", what)
		case <-tick.C:
		}
	}
}

// TestShutdownAndItsEnd: the lock is taken, pods end by priority, the lock is let go of although one hangs, and is taken anew when the
// shutdown is called off.
func TestShutdownAndItsEnd(t *testing.T) {
	address := privateBus(t)
	logind := newLogind(t, address)
	pods := &podList{hang: "hangs", pods: []*v1.Pod{newPod("system", 2000000000), newPod("web", 0), newPod("hangs", 1000)}}
	var mu sync.Mutex
	changes, events := 0, []string{}
	s := New(Config{
		Graces: []Grace{{0, 19}, {1000, 1}, {2000000000, 10}}, Pods: pods, DropIns: logind.dropIns, Log: slog.New(slog.DiscardHandler),
		Bus: func(o ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Connect(address, o...) },
		Changed: func() {
			mu.Lock()
			defer mu.Unlock()
			changes++
		},
		Event: func(_, reason, _ string) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, reason)
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "the lock is held", func() bool { n, held := logind.held(); return n == 1 && held })
	if s.Begun() || pods.all() != "" {
		t.Fatalf("begun without a signal: ended %s", pods.all())
	}
	logind.mu.Lock()
	if logind.delay != 30_000_000 || logind.asked[0] != "shutdown coracle-agent delay" {
		t.Errorf("logind waits for %d µs, was asked for %q", logind.delay, logind.asked)
	}
	logind.mu.Unlock()

	logind.prepare(true)
	eventually(t, "the lock is let go of", func() bool { _, held := logind.held(); return !held })
	if got := pods.all(); got != "web Terminated, hangs Terminated, system Terminated" || !s.Begun() {
		t.Errorf("ended: %s; begun %v", got, s.Begun())
	}
	logind.prepare(false)
	eventually(t, "the lock is held again", func() bool { n, held := logind.held(); return n == 2 && held })
	if s.Begun() {
		t.Error("the shutdown was called off and is still told of")
	}
	mu.Lock()
	if changes != 2 || len(events) != 1 || events[0] != "NodeShutdown" {
		t.Errorf("told of %d changes, events %v", changes, events)
	}
	mu.Unlock()

	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("Run does not end")
	}
	eventually(t, "the lock is let go of at the end", func() bool { _, held := logind.held(); return !held })
}

// TestWithoutLogind: nothing is refused, and it is said once.
func TestWithoutLogind(t *testing.T) {
	var log strings.Builder
	address := privateBus(t)
	for name, bus := range map[string]func(...dbus.ConnOption) (*dbus.Conn, error){
		"no bus":       func(...dbus.ConnOption) (*dbus.Conn, error) { return nil, os.ErrNotExist },
		"nobody there": func(o ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Connect(address, o...) },
	} {
		s := New(Config{Graces: []Grace{{0, 1}}, Pods: &podList{}, Bus: bus, DropIns: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err := s.follow(t.Context()); !errors.Is(err, errNoLogind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Config{}).Run(ctx); err != nil {
		t.Errorf("without graces: %v", err)
	}
}
