package shutdown

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const (
	loginName    = "org.freedesktop.login1"
	loginPath    = "/org/freedesktop/login1"
	loginManager = "org.freedesktop.login1.Manager"
	systemdName  = "org.freedesktop.systemd1"

	// callTimeout bounds one question on the bus: answers take milliseconds.
	callTimeout = 10 * time.Second
	// reloadWait is how long logind may take to heed its new configuration.
	reloadWait = 5 * time.Second
	// dropIn is the file that lets logind wait as long as pods may take. It is gone after the shutdown, as /run is.
	dropIn = "90-coracle.conf"
)

// errNoLogind says that nobody on this machine tells of shutdowns.
var errNoLogind = errors.New("systemd-logind does not answer")

// logind is one connection to it.
type logind struct {
	conn    *dbus.Conn
	manager dbus.BusObject
	signals chan *dbus.Signal // eight: one shutdown is two of them; closed with the connection
}

// connect asks whether logind is there and has it tell of shutdowns.
func connect(ctx context.Context, bus func(...dbus.ConnOption) (*dbus.Conn, error)) (*logind, error) {
	conn, err := bus(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: connect to the system bus: %w", errNoLogind, err)
	}
	l := &logind{conn: conn, manager: conn.Object(loginName, loginPath), signals: make(chan *dbus.Signal, 8)}
	conn.Signal(l.signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(loginManager), dbus.WithMatchMember("PrepareForShutdown"), dbus.WithMatchObjectPath(loginPath))
	if err == nil {
		_, err = l.maxDelay(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errNoLogind, err), conn.Close())
	}
	return l, nil
}

func (l *logind) close() error { return l.conn.Close() }

// maxDelay is how long logind lets a shutdown be delayed.
func (l *logind) maxDelay(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var v dbus.Variant
	if err := l.manager.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, loginManager, "InhibitDelayMaxUSec").Store(&v); err != nil {
		return 0, fmt.Errorf("ask logind for InhibitDelayMaxUSec: %w", err)
	}
	usec, ok := v.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("logind's InhibitDelayMaxUSec is %s, no number", v)
	}
	return time.Duration(min(usec, 1<<40)) * time.Microsecond, nil
}

// inhibit delays shutdowns until the file is closed.
func (l *logind) inhibit(ctx context.Context) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var fd dbus.UnixFD
	err := l.manager.CallWithContext(ctx, loginManager+".Inhibit", 0, "shutdown", "coracle-agent", "Pods end before the machine does", "delay").Store(&fd)
	if err != nil {
		return nil, fmt.Errorf("take an inhibitor lock of logind: %w", err)
	}
	unix.CloseOnExec(int(fd))
	return os.NewFile(uintptr(fd), "inhibitor lock"), nil
}

// allow has logind delay shutdowns for that long, by a drop-in of its configuration in dir. It returns what it allows then.
func (l *logind) allow(ctx context.Context, dir string, d time.Duration) (time.Duration, error) {
	have, err := l.maxDelay(ctx)
	if err != nil || have >= d {
		return have, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return have, fmt.Errorf("let logind wait for pods: %w", err)
	}
	text := fmt.Sprintf("# Written by coracle-agent, which ends pods before the machine shuts down.\n[Login]\nInhibitDelayMaxSec=%d\n", int(d.Seconds()+0.999))
	file := filepath.Join(dir, dropIn)
	if old, err := os.ReadFile(file); errors.Is(err, fs.ErrNotExist) || string(old) != text {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // logind's configuration, as readable as all of it
			return have, fmt.Errorf("let logind wait for pods: %w", err)
		}
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	systemd := l.conn.Object(systemdName, "/org/freedesktop/systemd1")
	if err := systemd.CallWithContext(callCtx, systemdName+".Manager.KillUnit", 0, "systemd-logind.service", "all", int32(unix.SIGHUP)).Err; err != nil {
		return have, fmt.Errorf("have logind read %s: %w", file, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(reloadWait); have < d && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return have, ctx.Err()
		case <-tick.C:
		}
		if have, err = l.maxDelay(ctx); err != nil {
			return have, err
		}
	}
	return have, nil
}

// preparing reads a signal. ok is false for one that says something else.
func preparing(s *dbus.Signal) (begins, ok bool) {
	if s.Name != loginManager+".PrepareForShutdown" || len(s.Body) != 1 {
		return false, false
	}
	begins, ok = s.Body[0].(bool)
	return begins, ok
}
