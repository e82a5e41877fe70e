package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/agent/runtime"
	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

func (s *Server) exec(ctx context.Context, req *nodev1.Exec, stream Stream, out *sender) *nodev1.Result {
	id, err := s.running(ctx, req.GetPodUid(), req.GetContainer())
	if err != nil {
		return failure(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := s.listen(stream, req.GetStdin(), cancel)
	defer in.close()
	spec := runtime.ExecSpec{Command: req.GetCommand(), TTY: req.GetTty(), Resize: in.sizes}
	if req.GetStdin() {
		spec.Stdin = in.reader
	}
	if req.GetStdout() || req.GetTty() {
		spec.Stdout = out.to(nodev1.Frame_STDOUT)
	}
	if req.GetStderr() && !req.GetTty() {
		spec.Stderr = out.to(nodev1.Frame_STDERR)
	}
	code, err := s.c.Runtime.Exec(ctx, id, spec)
	if err != nil {
		return failure(err)
	}
	return &nodev1.Result{ExitCode: int32(code)}
}

func (s *Server) attach(ctx context.Context, req *nodev1.Attach, stream Stream, out *sender) *nodev1.Result {
	id, err := s.running(ctx, req.GetPodUid(), req.GetContainer())
	if err != nil {
		return failure(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in := s.listen(stream, req.GetStdin(), cancel)
	defer in.close()
	spec := runtime.AttachSpec{TTY: req.GetTty(), Resize: in.sizes}
	if req.GetStdin() {
		spec.Stdin = in.reader
	}
	if req.GetStdout() || req.GetTty() {
		spec.Stdout = out.to(nodev1.Frame_STDOUT)
	}
	if req.GetStderr() && !req.GetTty() {
		spec.Stderr = out.to(nodev1.Frame_STDERR)
	}
	return failure(s.c.Runtime.Attach(ctx, id, spec))
}

// running finds the running attempt of a container.
func (s *Server) running(ctx context.Context, uid, name string) (id string, err error) {
	p, err := s.pod(uid)
	if err != nil {
		return "", err
	}
	observed, err := s.c.Runtime.Observe(ctx, p.UID)
	if err != nil {
		return "", fmt.Errorf("look at pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	for _, c := range observed.Containers {
		if c.Name == name && c.State == pod.Running {
			return c.ID, nil
		}
	}
	// The words are those that users of Kubernetes search for.
	err = fmt.Errorf("container not found (%q)", name)
	if status, _, ok := s.c.Statuses.Last(p.UID); ok {
		if cs := containerStatus(&status, name); cs != nil && cs.State.Waiting != nil {
			err = fmt.Errorf("container %q in pod %q is waiting to start: %s", name, p.Name, cs.State.Waiting.Reason)
		} else if cs != nil && cs.State.Terminated != nil {
			err = fmt.Errorf("container %q in pod %q has ended: %s", name, p.Name, cs.State.Terminated.Reason)
		}
	}
	return "", fault.As(fault.ErrConflict, err)
}

func containerStatus(status *v1.PodStatus, name string) *v1.ContainerStatus {
	for _, list := range [][]v1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// input is what the user sends: bytes and terminal sizes.
type input struct {
	reader *io.PipeReader
	writer *io.PipeWriter
	sizes  chan runtime.Size
}

// errGone ends a command whose user has gone.
var errGone = errors.New("the user has disconnected")

// listen takes frames off the stream until it ends. gone is called when the user has
// disconnected, which is not the same as having ended the input.
func (s *Server) listen(stream Stream, stdin bool, gone context.CancelFunc) *input {
	in := &input{sizes: make(chan runtime.Size, 1)} // the latest size is all that matters
	in.reader, in.writer = io.Pipe()
	if !stdin {
		_ = in.writer.Close() // never fails
	}
	// Recv returns when the stream ends, which Serve's caller brings about after Serve has returned.
	go func() {
		defer gone()
		for {
			f, err := stream.Recv()
			if err != nil {
				_ = in.writer.CloseWithError(errGone) // never fails
				return
			}
			if size := f.GetResize(); size != nil {
				in.resize(runtime.Size{Width: uint16(min(size.GetWidth(), 1<<16-1)), Height: uint16(min(size.GetHeight(), 1<<16-1))})
			}
			if len(f.GetData()) > 0 {
				if _, err := in.writer.Write(f.GetData()); err != nil {
					continue // the command reads no more; sizes may still come
				}
			}
			if f.GetClose() {
				_ = in.writer.Close() // never fails
			}
		}
	}()
	return in
}

// resize keeps the latest size only.
func (in *input) resize(size runtime.Size) {
	for {
		select {
		case in.sizes <- size:
			return
		default:
		}
		select {
		case <-in.sizes:
		default:
		}
	}
}

func (in *input) close() { _ = in.reader.CloseWithError(io.ErrClosedPipe) } // never fails
