// Package testcontainerd starts a containerd of a test's own, with its own root, state and
// socket, and takes it away again. It is no part of the shipped programs.
package testcontainerd

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Daemon is one running containerd.
type Daemon struct {
	Dir     string // scratch directory on a short path, removed afterwards
	Address string // socket
	cmd     *exec.Cmd
	log     *bytes.Buffer
}

const config = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "%[1]s/c.sock"
`

// Start runs containerd until the test ends. Without root or containerd the test is skipped.
func Start(t testing.TB) *Daemon {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to run containerd")
	}
	if _, err := exec.LookPath("containerd"); err != nil {
		t.Skip("containerd is not installed")
	}
	dir, err := os.MkdirTemp("", "ctd") // unix sockets want short paths
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Dir: dir, Address: filepath.Join(dir, "c.sock")}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(fmt.Sprintf(config, dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.remove(t) })
	d.Run(t)
	return d
}

// Run starts the daemon again after Kill.
func (d *Daemon) Run(t testing.TB) {
	t.Helper()
	d.log = &bytes.Buffer{}
	d.cmd = exec.Command("containerd", "--config", filepath.Join(d.Dir, "config.toml"), "--log-level", "warn")
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("start containerd: %v", err)
	}
	conn, err := grpc.NewClient("unix://"+d.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	health, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil || health.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("containerd does not serve: %v %v\n%s", health, err, d.log)
	}
}

// Kill ends the daemon as a crash would; its shims and containers run on.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	d.cmd = nil
}

// PID is the daemon's process id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Shims lists the process ids of this daemon's shims.
func (d *Daemon) Shims() []int {
	var out []int
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		data, err := os.ReadFile(p)
		if err != nil || !strings.Contains(string(data), "containerd-shim") || !strings.Contains(string(data), d.Address) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(p, "/proc/%d/cmdline", &pid); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// Mounts lists the mount points below the daemon's directory.
func (d *Daemon) Mounts() []string { return MountsBelow(d.Dir) }

// MountsBelow lists the mount points below dir.
func MountsBelow(dir string) []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var out []string
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			out = append(out, fields[4])
		}
	}
	return out
}

func (d *Daemon) remove(t testing.TB) {
	d.Kill(t)
	for _, pid := range d.Shims() { // only what a failed test has left
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	mounts := d.Mounts()
	for i := len(mounts) - 1; i >= 0; i-- {
		_ = unix.Unmount(mounts[i], unix.MNT_DETACH)
	}
	if err := os.RemoveAll(d.Dir); err != nil {
		t.Logf("remove %s: %v", d.Dir, err)
	}
	if t.Failed() && d.log.Len() > 0 {
		t.Logf("containerd said:\n%s", d.log)
	}
}
