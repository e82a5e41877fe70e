// Package testlogind is a systemd-logind for tests, on a bus of their own: it hands out inhibitor locks, tells of shutdowns
// and reads its configuration again when it is told to. It shuts nothing down.
package testlogind

import (
	"bufio"
	"errors"
	"io"
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
)

const (
	name    = "org.freedesktop.login1"
	path    = "/org/freedesktop/login1"
	manager = "org.freedesktop.login1.Manager"
	systemd = "org.freedesktop.systemd1"
)

// Bus runs a bus of the test's own, and gives its address.
func Bus(t testing.TB) string {
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

// Logind answers as systemd-logind and systemd do, as far as they are asked.
type Logind struct {
	t    testing.TB
	conn *dbus.Conn
	// DropIns is where it looks for configuration when it is told to.
	DropIns string

	mu    sync.Mutex
	delay uint64
	locks []*os.File // our ends: at the end of the file once the other side is closed
	asked []string
}

// New owns the names of logind and of systemd on the bus. It lets shutdowns be delayed for so many microseconds at first.
func New(t testing.TB, address string, delay uint64) *Logind {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	f := &Logind{t: t, conn: conn, DropIns: t.TempDir(), delay: delay}
	t.Cleanup(func() { _ = conn.Close() }) // the bus may have gone before
	for _, export := range []struct {
		methods map[string]any
		path    dbus.ObjectPath
		iface   string
	}{
		{map[string]any{"Inhibit": f.inhibit}, path, manager},
		{map[string]any{"Get": f.get}, path, "org.freedesktop.DBus.Properties"},
		{map[string]any{"KillUnit": f.killUnit}, "/org/freedesktop/systemd1", systemd + ".Manager"},
	} {
		if err := conn.ExportMethodTable(export.methods, export.path, export.iface); err != nil {
			t.Fatal(err)
		}
	}
	for _, own := range []string{name, systemd} {
		if reply, err := conn.RequestName(own, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
			t.Fatalf("own %s: %v, %v", own, reply, err)
		}
	}
	return f
}

func (f *Logind) inhibit(what, who, why, mode string) (dbus.UnixFD, *dbus.Error) {
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

func (f *Logind) get(_, property string) (dbus.Variant, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if property != "InhibitDelayMaxUSec" {
		return dbus.Variant{}, dbus.MakeFailedError(errors.New("no property " + property))
	}
	return dbus.MakeVariant(f.delay), nil
}

// killUnit reads the configuration again, if there is any.
func (f *Logind) killUnit(unit, _ string, signal int32) *dbus.Error {
	data, err := os.ReadFile(filepath.Join(f.DropIns, "90-coracle.conf"))
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

// Prepare says that a shutdown begins, or that it was called off.
func (f *Logind) Prepare(begins bool) {
	f.t.Helper()
	if err := f.conn.Emit(path, manager+".PrepareForShutdown", begins); err != nil {
		f.t.Fatal(err)
	}
}

// Held says how many locks were taken, and whether the last one is held.
func (f *Logind) Held() (taken int, held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.locks) == 0 {
		return 0, false
	}
	_ = f.locks[len(f.locks)-1].SetReadDeadline(time.Now().Add(time.Millisecond)) // a pipe takes deadlines
	_, err := f.locks[len(f.locks)-1].Read(make([]byte, 1))
	return len(f.locks), !errors.Is(err, io.EOF)
}

// Delay is how long it lets shutdowns be delayed, in microseconds, and Asked what locks were asked for.
func (f *Logind) Delay() (delay uint64, asked []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.delay, slices.Clone(f.asked)
}
