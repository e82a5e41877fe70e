package runtime

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"coracle/agent/pod"
	"coracle/internal/fault"
	"coracle/internal/testwait"
)

func TestExec(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("33333333-aaaa-4bbb-8ccc-000000000001", nil)
	c.Command = []string{"sleep", "1000"}
	c.Env = []pod.EnvVar{{Name: "FROM_POD", Value: "yes"}}
	id := n.start(c)
	exec := func(spec ExecSpec) (string, string, int, error) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		spec.Stdout, spec.Stderr = &stdout, &stderr
		code, err := n.run.Exec(t.Context(), id, spec)
		return stdout.String(), stderr.String(), code, err
	}
	sh := func(line string) ExecSpec { return ExecSpec{Command: []string{"sh", "-c", line}} }

	stdout, stderr, code, err := exec(sh("echo out $FROM_POD; echo err >&2; exit 7"))
	if stdout != "out yes\n" || stderr != "err\n" || code != 7 || err != nil {
		t.Errorf("exec = %q %q %d %v", stdout, stderr, code, err)
	}
	spec := sh("cat; echo end")
	spec.Stdin = strings.NewReader("fed\n")
	if stdout, _, code, err = exec(spec); stdout != "fed\nend\n" || code != 0 || err != nil {
		t.Errorf("exec with input = %q %d %v", stdout, code, err)
	}
	// Nobody need listen, to one output or to both.
	var only bytes.Buffer
	spec = sh("echo out; echo err >&2; exit 4")
	spec.Stdout = &only
	if code, err := n.run.Exec(t.Context(), id, spec); code != 4 || only.String() != "out\n" || err != nil {
		t.Errorf("exec with one output = %q %d %v", only.String(), code, err)
	}
	if code, err := n.run.Exec(t.Context(), id, sh("echo out; echo err >&2; exit 4")); code != 4 || err != nil {
		t.Errorf("exec without output = %d %v", code, err)
	}
	big := strings.Repeat("0123456789abcdef\n", 1<<16)
	spec = ExecSpec{Command: []string{"cat"}, Stdin: strings.NewReader(big)}
	if stdout, _, _, err = exec(spec); stdout != big || err != nil {
		t.Errorf("exec copied %d bytes of %d, %v", len(stdout), len(big), err)
	}
	sizes := make(chan Size, 1)
	sizes <- Size{Width: 91, Height: 17}
	spec = sh("tty; until stty size | grep '17 91'; do sleep 0.05; done")
	spec.TTY, spec.Resize = true, sizes
	if stdout, _, code, err = exec(spec); !strings.HasPrefix(stdout, "/dev/pts/") || code != 0 || err != nil {
		t.Errorf("exec with terminal = %q %d %v", stdout, code, err)
	}
	_, _, _, err = exec(ExecSpec{Command: []string{"nosuchcommand"}})
	if e := StartErrorOf(err); e == nil || !strings.Contains(e.Message, "nosuchcommand") {
		t.Errorf("exec of nothing: %v", err)
	}
	spec = sh("sleep 1000")
	spec.Timeout = 200 * time.Millisecond
	if _, _, _, err = exec(spec); !errors.Is(err, ErrTimeout) {
		t.Errorf("exec that takes too long: %v", err)
	}
	if _, err := n.run.Exec(t.Context(), "nosuch", sh("true")); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("exec in nothing: %v", err)
	}
	if err := n.run.Signal(t.Context(), id, "SIGKILL"); err != nil {
		t.Fatal(err)
	}
	n.observed(c.PodUID, id, pod.Exited)
	if _, _, _, err = exec(sh("true")); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("exec in a container that ended: %v", err)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

// lockedBuffer is written by the log writer's client while the test reads.
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

func TestAttach(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("33333333-aaaa-4bbb-8ccc-000000000002", nil)
	c.Stdin, c.StdinOnce = true, true
	c.Command = []string{"sh", "-c", "while read x; do echo got $x; echo err $x >&2; done; echo input ended; exit 5"}
	id := n.start(c)
	in, feed := io.Pipe()
	var stdout, stderr lockedBuffer
	var attached sync.WaitGroup
	attached.Go(func() {
		if err := n.run.Attach(t.Context(), id, AttachSpec{Stdin: in, Stdout: &stdout, Stderr: &stderr}); err != nil {
			t.Errorf("attach: %v", err)
		}
	})
	testwait.End(t, "the input is read", func() {
		if _, err := io.WriteString(feed, "one\n"); err != nil {
			t.Error(err)
		}
	})
	testwait.Until(t, "the answer", func() bool { return stdout.String() == "got one\n" && stderr.String() == "err one\n" })
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	testwait.End(t, "attaching", attached.Wait)
	if end := n.observed(c.PodUID, id, pod.Exited); end.ExitCode != 5 || !strings.HasSuffix(stdout.String(), "input ended\n") {
		t.Errorf("end %+v, output %q", end, stdout.String())
	}
	if err := n.run.Attach(t.Context(), id, AttachSpec{Stdout: &stdout}); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("attach to a container that ended: %v", err)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func TestAttachToTerminal(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("33333333-aaaa-4bbb-8ccc-000000000003", nil)
	c.Stdin, c.TTY = true, true
	c.Command = []string{"sh"}
	id := n.start(c)
	attach := func(line, want string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		in, feed := io.Pipe()
		defer feed.Close()
		var out lockedBuffer
		sizes := make(chan Size, 1)
		sizes <- Size{Width: 101, Height: 31}
		var attached sync.WaitGroup
		attached.Go(func() {
			err := n.run.Attach(ctx, id, AttachSpec{TTY: true, Stdin: in, Stdout: &out, Resize: sizes})
			if err != nil && ctx.Err() == nil {
				t.Errorf("attach: %v", err)
			}
		})
		typing, stopTyping := context.WithCancel(ctx)
		attached.Go(func() { // again and again: when the shell is ready to read cannot be seen from here
			again := time.NewTicker(20 * time.Millisecond)
			defer again.Stop()
			for typing.Err() == nil {
				if _, err := io.WriteString(feed, line+"\n"); err != nil {
					return
				}
				select {
				case <-again.C:
				case <-typing.Done():
				}
			}
		})
		testwait.Until(t, "the shell says "+want, func() bool { return strings.Contains(out.String(), want) })
		stopTyping()
		cancel()
		_ = in.Close()
		testwait.End(t, "attaching", attached.Wait)
	}
	attach("stty size; tty", "31 101")
	attach("echo $((6 * 7))", "42") // the input stays open between callers
	n.observed(c.PodUID, id, pod.Running)
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}
