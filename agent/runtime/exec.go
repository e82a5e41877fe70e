package runtime

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"coracle/internal/fault"
)

// Size is a terminal's, in characters.
type Size struct{ Width, Height uint16 }

// ExecSpec is one command to run in a container.
type ExecSpec struct {
	Command []string
	TTY     bool
	// Stdin, Stdout and Stderr may be nil. With TTY there is no Stderr.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size   // nil: never
	Timeout        time.Duration // 0: none
}

// ErrTimeout is what Exec returns when ExecSpec.Timeout is over; the command was killed.
var ErrTimeout = errors.New("command timed out")

// drainTimeout is how long the output of a command may be silent after its end: a child that
// it left may hold the other end for ever. Time that whoever reads the output takes does not count.
const drainTimeout = 10 * time.Second

// Exec runs a command in a running container and returns its exit code. A command that cannot
// be started is a *StartError; a container that does not run is of class Conflict, one that is
// gone NotFound.
func (r *Runtime) Exec(ctx context.Context, id string, spec ExecSpec) (int, error) {
	if len(spec.Command) == 0 {
		return 0, fault.Invalid("exec in container " + id + ": no command")
	}
	ctx, cancel := context.WithCancel(r.context(ctx))
	defer cancel()
	container, err := r.client.LoadContainer(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
	}
	task, err := container.Task(ctx, nil)
	if notThere(err) {
		err = fault.As(fault.ErrConflict, errors.New("the container is not running"))
	}
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
	}
	process, err := r.execProcess(ctx, container, spec)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	code, err := r.runExec(ctx, task, process, spec)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	return code, nil
}

// execProcess is the container's own process with another command.
func (r *Runtime) execProcess(ctx context.Context, container containerd.Container, spec ExecSpec) (*specs.Process, error) {
	record, err := container.Info(ctx, containerd.WithoutRefreshedMetadata)
	if err != nil {
		return nil, classify(err)
	}
	oci, err := specIn(record)
	if err != nil {
		return nil, fmt.Errorf("read OCI spec: %w", err)
	}
	process := *oci.Process
	process.Args, process.Terminal, process.ConsoleSize = spec.Command, spec.TTY, nil
	if spec.TTY && !slices.ContainsFunc(process.Env, func(e string) bool { return strings.HasPrefix(e, "TERM=") }) {
		process.Env = append(slices.Clone(process.Env), "TERM=xterm")
	}
	return &process, nil
}

func (r *Runtime) runExec(ctx context.Context, task containerd.Task, process *specs.Process, spec ExecSpec) (code int, err error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	execID := "exec-" + hex.EncodeToString(random[:])
	stdin := &endReader{from: spec.Stdin, ended: make(chan struct{})}
	options := []cio.Opt{cio.WithFIFODir(execDir(r.cfg))}
	var in io.Reader
	if spec.Stdin != nil {
		in = stdin
	}
	output := &flow{at: time.Now()}
	// The shim wants a pipe for each output, wanted or not; with a terminal there is one.
	stdout, stderr := output.writer(orNowhere(spec.Stdout)), output.writer(orNowhere(spec.Stderr))
	if spec.TTY {
		options, stderr = append(options, cio.WithTerminal), nil
	}
	options = append(options, cio.WithStreams(in, stdout, stderr))
	exec, err := task.Exec(ctx, execID, process, cio.NewCreator(options...))
	if err != nil {
		return 0, r.execError(err)
	}
	defer func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		// The command has ended and its user has its output and exit code: what is left goes with the container.
		_, derr := exec.Delete(undo, containerd.WithProcessKill)
		if derr != nil { // containerd is away or knows it no more: then the pipes were not closed, and their folder is there still
			exec.IO().Cancel()
			_ = exec.IO().Close()
		}
		if ignoreNotFound(derr) != nil && ctx.Err() == nil {
			r.log.Warn("command not cleaned up", "container", task.ID(), "err", classify(derr))
		}
	}()
	exited, err := exec.Wait(ctx)
	if err != nil {
		return 0, classify(err)
	}
	done, err := r.starts.enter(ctx, task.ID())
	if err != nil {
		return 0, err
	}
	err = exec.Start(ctx)
	done()
	if err != nil {
		return 0, r.execError(err)
	}
	return r.awaitExec(ctx, exec, exited, stdin.ended, output, spec)
}

func (r *Runtime) awaitExec(ctx context.Context, exec containerd.Process, exited <-chan containerd.ExitStatus, inputEnded <-chan struct{}, output *flow, spec ExecSpec) (int, error) {
	var timeout <-chan time.Time
	if spec.Timeout > 0 {
		timer := time.NewTimer(spec.Timeout)
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		select {
		case size, ok := <-spec.Resize:
			if !ok {
				spec.Resize = nil
				continue
			}
			_ = exec.Resize(ctx, uint32(size.Width), uint32(size.Height)) // of a command that has just ended
		case <-inputEnded:
			// The command's input must end, too: the shim holds a writing end of its own.
			inputEnded = nil
			if err := exec.CloseIO(ctx, containerd.WithStdinCloser); err != nil && !notThere(err) && !finished(err) {
				r.log.Debug("input of command not closed", "container", exec.ID(), "err", err)
			}
		case <-timeout:
			kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			err := exec.Kill(kill, unix.SIGKILL)
			return 0, errors.Join(fmt.Errorf("%w after %s", ErrTimeout, spec.Timeout), ignoreNotFound(err))
		case status := <-exited:
			code, _, err := status.Result()
			if err != nil {
				return 0, classify(err)
			}
			drain(exec.IO(), output)
			return int(code), nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// execDir holds the pipes of the commands that run. Their readers are in the agent: those of one that was killed are removed at its next start.
func execDir(cfg Config) string { return filepath.Join(cfg.RunDir, "exec") }

func orNowhere(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// execError separates what the OCI runtime said of the command from containerd's being away.
func (r *Runtime) execError(err error) error {
	if isUnavailable(err) || isNotFound(err) || errors.Is(err, context.Canceled) {
		return classify(err)
	}
	if isConflict(err) || strings.Contains(err.Error(), "cannot exec in a stopped") || strings.Contains(err.Error(), "not running") {
		return fault.As(fault.ErrConflict, classify(err))
	}
	return startError(err)
}

// endReader closes ended when its source has ended. It is read before the command has started,
// so what follows from that is left to whoever waits for the command.
type endReader struct {
	from  io.Reader
	ended chan struct{}
	once  sync.Once
}

func (e *endReader) Read(p []byte) (int, error) {
	n, err := e.from.Read(p)
	if err != nil {
		e.once.Do(func() { close(e.ended) })
	}
	return n, err
}

// resize sets the size of a container's own terminal.
func (r *Runtime) resize(ctx context.Context, id string, size Size) error {
	_, err := r.client.TaskService().ResizePty(ctx, &tasks.ResizePtyRequest{ContainerID: id, Width: uint32(size.Width), Height: uint32(size.Height)})
	return classify(err)
}
