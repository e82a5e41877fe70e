package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"coracle/agent/logwriter"
	"coracle/internal/fault"
)

// AttachSpec is who takes part in a container's own streams.
type AttachSpec struct {
	TTY            bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size
}

// Attach joins a running container's streams until they end, ctx ends or the caller's output
// fails. Output comes from the log writer, from now on; input goes to the container's FIFO. A
// container with stdinOnce sees the end of its input when the first caller's has ended.
func (r *Runtime) Attach(ctx context.Context, id string, spec AttachSpec) error {
	ctx, cancel := context.WithCancel(r.context(ctx))
	defer cancel()
	record, err := r.containers().Get(ctx, id)
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, classify(err))
	}
	reg, err := parseIO(record.Labels[labelIO])
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	if record.Labels[labelExit] != "" {
		return fmt.Errorf("attach to container %s: %w", id, fault.As(fault.ErrConflict, errors.New("the container is not running")))
	}
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	var input *os.File
	if spec.Stdin != nil && reg.Stdin {
		if input, err = openStdin(logwriter.PathsOf(r.ioDir(), id, reg).Stdin); err != nil {
			return fmt.Errorf("attach to container %s: %w", id, err)
		}
		defer input.Close()
	}
	if spec.Resize != nil && reg.TTY {
		others.Go(func() { r.resizeLoop(ctx, id, spec.Resize) })
	}
	fed := false
	feed := func() {
		if input == nil || fed {
			return
		}
		fed = true
		// Not waited for: the caller's reader may block until its connection is closed, after Attach has returned.
		go func() {
			r.feed(context.WithoutCancel(ctx), id, input, spec.Stdin, record.Labels[labelStdinOnce] == "true")
		}()
	}
	if err := logwriter.Follow(ctx, r.cfg.LogSocket, id, spec.Stdout, spec.Stderr, feed); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	return nil
}

// openStdin opens the writing end; the shim holds the reading end of a running container.
func openStdin(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) {
		return nil, fault.As(fault.ErrConflict, errors.New("the container's input is closed"))
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (r *Runtime) feed(ctx context.Context, id string, input *os.File, from io.Reader, once bool) {
	_, err := io.Copy(input, from)
	if errors.Is(err, os.ErrClosed) {
		return
	}
	if once {
		ctx, cancel := context.WithTimeout(ctx, undoTimeout)
		defer cancel()
		_ = input.Close()
		_, err := r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, Stdin: true})
		if err != nil && !notThere(err) {
			r.log.Warn("input of container not closed", "container", id, "err", err)
		}
	}
}

func (r *Runtime) resizeLoop(ctx context.Context, id string, sizes <-chan Size) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if err := r.resize(ctx, id, size); err != nil && ctx.Err() == nil {
				r.log.Debug("terminal not resized", "container", id, "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}
