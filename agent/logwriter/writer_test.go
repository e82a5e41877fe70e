package logwriter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coracle/internal/fault"
	"coracle/internal/testwait"
)

// bench is a log writer and a container's side of its FIFOs.
type bench struct {
	t    *testing.T
	cfg  Config
	dir  string
	said lockedBuffer // what the log writer logs itself
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newBench(t *testing.T) *bench {
	dir, err := os.MkdirTemp("", "lw") // unix sockets want short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bench{t: t, dir: dir}
	b.cfg = Config{
		IODir: filepath.Join(dir, "io"), Socket: filepath.Join(dir, "log.sock"), Log: slog.New(slog.NewTextHandler(&b.said, nil)),
	}
	return b
}

// run serves until stop is called. It returns when the log writer answers.
func (b *bench) run() (stop func()) {
	b.t.Helper()
	w, err := New(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	stop = testwait.Run(b.t, "the log writer", w.Run)
	b.wait("the log writer's socket", func() bool {
		conn, err := net.Dial("unix", b.cfg.Socket)
		return err == nil && conn.Close() == nil
	})
	return stop
}

func (b *bench) register(id string) (Paths, string) {
	b.t.Helper()
	log := filepath.Join(b.dir, "logs", id, "0.log")
	paths, err := Register(b.cfg.IODir, id, Registration{LogPath: log})
	if err != nil {
		b.t.Fatal(err)
	}
	return paths, log
}

// shim opens a FIFO as containerd's shim does: it keeps a reading end, so that writing never
// fails, but only the writing end decides when the stream ends.
func (b *bench) shim(path string) *os.File {
	b.t.Helper()
	reading, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = unix.Close(reading) })
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// content is what the file's whole lines say. A read may fall into the middle of a write, which is not atomic across
// pages: what follows the last newline is not there yet.
func (b *bench) content(path string) string {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(decode(b.t, data[:bytes.LastIndexByte(data, '\n')+1]))
}

func (b *bench) wait(what string, done func() bool) {
	b.t.Helper()
	testwait.Until(b.t, what, done)
}

// drain waits until all of a container's output is in its log.
func (b *bench) drain(id string) error {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), testwait.Patience)
	defer cancel()
	return Drain(ctx, b.cfg.Socket, id)
}

func say(t *testing.T, f *os.File, text string) {
	t.Helper()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
}

func TestOutputIsWrittenAndDrained(t *testing.T) {
	b := newBench(t)
	stop := b.run()
	defer stop()
	paths, log := b.register("a")
	stdout, stderr := b.shim(paths.Stdout), b.shim(paths.Stderr)
	say(t, stdout, "one\ntwo\nunfin")
	say(t, stderr, "bad\n")
	b.wait("log", func() bool { c := b.content(log); return strings.Contains(c, "two\n") && strings.Contains(c, "bad\n") })
	if strings.Contains(b.content(log), "unfin") {
		t.Error("an unfinished line was written")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := Drain(ctx, b.cfg.Socket, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drained while the container runs: %v", err)
	}
	for _, f := range []*os.File{stdout, stderr} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.drain("a"); err != nil {
		t.Fatal(err)
	}
	if got := b.content(log); !strings.HasSuffix(got, "unfin\n") {
		t.Errorf("log = %q", got)
	}
	if err := b.drain("nosuch"); err == nil {
		t.Error("drained what was never registered")
	}
	if err := Unregister(b.cfg.IODir, "a"); err != nil {
		t.Fatal(err)
	}
	if err := Unregister(b.cfg.IODir, "a"); err != nil {
		t.Errorf("unregistered again: %v", err)
	}
}

func TestFollow(t *testing.T) {
	b := newBench(t)
	if err := Follow(t.Context(), b.cfg.Socket, "a", nil, nil, nil); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("without a log writer: %v", err)
	}
	stop := b.run()
	defer stop()
	paths, _ := b.register("a")
	stdout, stderr := b.shim(paths.Stdout), b.shim(paths.Stderr)
	say(t, stdout, "before\n")
	b.wait("log", func() bool { return strings.Contains(b.content(filepath.Join(b.dir, "logs/a/0.log")), "before") })
	var out, errs bytes.Buffer
	ready := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		if err := Follow(t.Context(), b.cfg.Socket, "a", &out, &errs, func() { close(ready) }); err != nil {
			t.Errorf("Follow: %v", err)
		}
	})
	testwait.Receive(t, "the follower is heard", ready)
	say(t, stdout, "raw, no newline")
	say(t, stderr, "other")
	for _, f := range []*os.File{stdout, stderr} {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	testwait.End(t, "following", following.Wait)
	if out.String() != "raw, no newline" || errs.String() != "other" {
		t.Errorf("followed %q and %q", out.String(), errs.String())
	}
	if err := Follow(t.Context(), b.cfg.Socket, "a", &out, nil, nil); err != nil { // ended: returns at once
		t.Error(err)
	}
}

// One who does not read is cut off, and the log goes on.
func TestSlowFollowerDoesNotHoldTheContainer(t *testing.T) {
	b := newBench(t)
	stop := b.run()
	defer stop()
	paths, log := b.register("a")
	stdout := b.shim(paths.Stdout)
	defer stdout.Close()
	block := make(chan struct{})
	ready := make(chan struct{})
	result := make(chan error, 1)
	var following sync.WaitGroup
	following.Go(func() {
		result <- Follow(t.Context(), b.cfg.Socket, "a", blockedWriter{block}, nil, func() { close(ready) })
	})
	select {
	case <-ready:
	case err := <-result:
		t.Fatalf("Follow ended before it began: %v", err)
	case <-time.After(testwait.Patience):
		t.Fatal("the follower was not heard")
	}
	line := strings.Repeat("x", 1023) + "\n"
	for range 16 * 1024 { // 16 MiB: more than socket and queue hold, less than a rotation loses
		say(t, stdout, line)
	}
	close(block)
	testwait.End(t, "following", following.Wait)
	if err := <-result; err == nil || !strings.Contains(err.Error(), "too slow") {
		t.Errorf("Follow = %v", err)
	}
	rotated, err := filepath.Glob(log + ".*")
	if err != nil || len(rotated) == 0 {
		t.Errorf("no rotation after 16 MiB: %v %v", rotated, err)
	}
}

type blockedWriter struct{ until chan struct{} }

func (w blockedWriter) Write(p []byte) (int, error) { <-w.until; return len(p), nil }

func TestRotation(t *testing.T) {
	b := newBench(t)
	b.cfg.MaxSize, b.cfg.MaxFiles = 4096, 3
	stop := b.run()
	defer stop()
	paths, log := b.register("a")
	stdout := b.shim(paths.Stdout)
	defer stdout.Close()
	for i := range 400 {
		line := fmt.Sprintf("line %d of many\n", i)
		say(t, stdout, line)
		if i%10 != 0 && i != 399 { // so that one read does not hold them all
			continue
		}
		b.wait("log", func() bool { // in the current file, or in one that it filled
			files, _ := filepath.Glob(log + "*")
			return slices.ContainsFunc(files, func(f string) bool { return strings.Contains(b.content(f), line) })
		})
	}
	files, err := filepath.Glob(log + "*")
	if err != nil || len(files) != 3 {
		t.Errorf("files %v, %v; want 3", files, err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 3*4096 {
			t.Errorf("%s: %v %v", f, st.Size(), err)
		}
	}
}

// The log writer is killed; containers go on writing; the next one continues the same file.
func TestKilledLogWriterIsContinued(t *testing.T) {
	b := newBench(t)
	if os.Getenv("LOGWRITER_DIR") != "" {
		b.cfg.IODir, b.cfg.Socket = filepath.Join(os.Getenv("LOGWRITER_DIR"), "io"), filepath.Join(os.Getenv("LOGWRITER_DIR"), "log.sock")
		b.run()
		select {}
	}
	paths, log := b.register("a")
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledLogWriterIsContinued$")
		cmd.Env = append(os.Environ(), "LOGWRITER_DIR="+b.dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	stdout := b.shim(paths.Stdout)
	first := start()
	say(t, stdout, "one\n")
	b.wait("first line", func() bool { return b.content(log) == "one\n" })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	say(t, stdout, "two\n") // must not block
	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}
	second := start()
	defer func() { _ = second.Process.Kill(); _ = second.Wait() }()
	b.wait("second line", func() bool { return b.content(log) == "one\ntwo\n" })
	if err := b.drain("a"); err != nil {
		t.Errorf("Drain: %v", err)
	}
}

// Output that cannot be written is dropped and counted; the log says so when it can.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system")
	}
	b := newBench(t)
	logs := filepath.Join(b.dir, "logs")
	if err := os.Mkdir(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("small", logs, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	defer func() { _ = unix.Unmount(logs, unix.MNT_DETACH) }()
	stop := b.run()
	defer stop()
	paths, log := b.register("a")
	stdout := b.shim(paths.Stdout)
	defer stdout.Close()
	filler := filepath.Join(logs, "filler")
	b.wait("log", func() bool { _, err := os.Stat(log); return err == nil })
	say(t, stdout, "before\n")
	b.wait("log", func() bool { return b.content(log) == "before\n" })
	if err := os.WriteFile(filler, make([]byte, 1<<20-8192), 0o600); err != nil {
		t.Fatal(err)
	}
	say(t, stdout, strings.Repeat("lost\n", 4000))
	b.wait("error", func() bool { return strings.Contains(b.said.String(), "no space left") })
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	say(t, stdout, "after\n")
	b.wait("log", func() bool { return strings.Contains(b.content(log), "after\n") })
	if got := b.content(log); !strings.Contains(got, "bytes of log were lost here") {
		t.Errorf("the log does not say that some is missing: %q", got[max(0, len(got)-300):])
	}
}

func TestRegisterRefusesOddNames(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"", "..", ".x", "a/b", "a\x00b"} {
		if _, err := Register(b.cfg.IODir, id, Registration{LogPath: "/x"}); err == nil {
			t.Errorf("registered %q", id)
		}
	}
	if _, err := Register(b.cfg.IODir, "a", Registration{LogPath: "x"}); err == nil {
		t.Error("registered a relative log path")
	}
}

func TestTornLineIsEnded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	if err := os.WriteFile(path, []byte(stamp+" stdout F whole\n"+stamp+" stdout F to"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := logFile{path: path}
	if err := l.write([]byte(stamp+" stdout F next\n"), noon); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), "F to\n"+stamp+" stdout F next\n") {
		t.Errorf("log = %q, %v", data, err)
	}
}
