package podstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	nodev1 "coracle/proto/node/v1"
)

// frameSize is how much of a stream travels in one frame.
const frameSize = 32 << 10

// errCut is a stream that ended without a result: the node's connection was lost.
var errCut = errors.New("the connection to the node was lost")

// relay carries a user's streams to a node and back. It is an Executor and an Attacher of
// the protocols' server side: the stream was opened before, as its errors must be told
// before the protocols' upgrade.
type relay struct {
	stream Stream

	sendMu sync.Mutex // input and resizing send at the same time
}

// ExecInContainer implements remotecommand.Executor.
func (r *relay) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return r.run(ctx, in, out, errOut, resize)
}

// AttachContainer implements remotecommand.Attacher.
func (r *relay) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, errOut io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize) error {
	return r.run(ctx, in, out, errOut, resize)
}

// run returns when the node has said its result, or either side is gone.
func (r *relay) run(ctx context.Context, in io.Reader, out, errOut io.Writer, resize <-chan remotecommand.TerminalSize) error {
	defer func() { _ = r.stream.Close() }() // never fails
	done := make(chan struct{})
	defer close(done)
	// These end when the user's connection is closed, which the caller does after run returns.
	if in != nil {
		go r.input(in)
	}
	if resize != nil {
		go r.resizes(resize, done)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.stream.Close() })
	defer stop()
	for {
		f, err := r.stream.Recv()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errCut
		}
		if result := f.GetResult(); result != nil {
			return exit(result)
		}
		w := out
		if f.GetChannel() == nodev1.Frame_STDERR {
			w = errOut
		}
		if len(f.GetData()) > 0 && w != nil {
			if _, err := w.Write(f.GetData()); err != nil {
				return fmt.Errorf("the client is gone: %w", err)
			}
		}
	}
}

func exit(result *nodev1.Result) error {
	if result.GetError() != "" {
		return errors.New(result.GetError())
	}
	if code := result.GetExitCode(); code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: int(code)}
	}
	return nil
}

func (r *relay) send(f *nodev1.Frame) error {
	r.sendMu.Lock()
	defer r.sendMu.Unlock()
	return r.stream.Send(f)
}

func (r *relay) input(in io.Reader) {
	buf := make([]byte, frameSize)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			// gRPC has encoded the frame when Send returns, so the buffer is free again.
			if r.send(&nodev1.Frame{Channel: nodev1.Frame_STDIN, Data: buf[:n]}) != nil {
				return
			}
		}
		if err != nil {
			_ = r.send(&nodev1.Frame{Channel: nodev1.Frame_STDIN, Close: true}) // a stream that is gone needs no end
			return
		}
	}
}

func (r *relay) resizes(sizes <-chan remotecommand.TerminalSize, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			if r.send(&nodev1.Frame{Resize: &nodev1.TerminalSize{Width: uint32(size.Width), Height: uint32(size.Height)}}) != nil {
				return
			}
		}
	}
}
