// Package stream serves what users ask of pods through the control plane: commands, attached
// terminals, logs, and connections to ports.
//
// It owns reading the log files (of the CRI format, with their rotation) and dialling into
// pods. Commands and terminals are the runtime's; the connection is agent/session's.
//
// Invariants: every stream ends with one Result frame; a stream whose user has gone ends its
// work; a log is read in pieces, never as a whole.
package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/runtime"
	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

// Stream is one open stream. Send and Recv may be called at the same time, but each by one caller at a time.
type Stream = interface {
	Send(*nodev1.Frame) error
	Recv() (*nodev1.Frame, error)
}

// Pods are those assigned to the node; agent/store.Store.
type Pods interface {
	Pod(uid types.UID) (*v1.Pod, bool)
}

// Statuses are what was last said of pods; agent/status.Outbox.
type Statuses interface {
	Last(uid types.UID) (status v1.PodStatus, released, ok bool)
}

// Runtime runs commands in containers; agent/runtime.Runtime.
type Runtime interface {
	Observe(ctx context.Context, uid types.UID) (pod.Observed, error)
	Exec(ctx context.Context, id string, spec runtime.ExecSpec) (exitCode int, err error)
	Attach(ctx context.Context, id string, spec runtime.AttachSpec) error
}

// Config is what the server needs. Fields are required unless said otherwise.
type Config struct {
	Pods     Pods
	Statuses Statuses
	Runtime  Runtime
	// LogDir holds NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log; default /var/log/pods.
	LogDir string
	// Node answers HTTP requests to the node itself (nodes/proxy without a port). Nil: there is nothing to ask.
	Node http.Handler
	Log  *slog.Logger
}

// Server is safe for concurrent use.
type Server struct{ c Config }

// New returns a server of streams.
func New(c Config) *Server {
	if c.LogDir == "" {
		c.LogDir = "/var/log/pods"
	}
	return &Server{c: c}
}

// Serve answers one request and returns when the stream has ended.
func (s *Server) Serve(ctx context.Context, req *nodev1.StreamRequest, stream Stream) {
	out := &sender{stream: stream}
	result := s.answer(ctx, req, stream, out)
	if err := out.send(&nodev1.Frame{Result: result}); err != nil && ctx.Err() == nil {
		s.c.Log.Debug("end of a stream not told", "err", err)
	}
}

func (s *Server) answer(ctx context.Context, req *nodev1.StreamRequest, stream Stream, out *sender) *nodev1.Result {
	if err := s.named(req); err != nil {
		return failure(err)
	}
	switch r := req.GetRequest().(type) {
	case *nodev1.StreamRequest_Exec:
		return s.exec(ctx, r.Exec, stream, out)
	case *nodev1.StreamRequest_Attach:
		return s.attach(ctx, r.Attach, stream, out)
	case *nodev1.StreamRequest_Logs:
		return failure(s.logs(ctx, r.Logs, stream, out))
	case *nodev1.StreamRequest_Dial:
		return failure(s.dial(ctx, r.Dial, stream, out))
	}
	return failure(fault.Invalid("this agent does not know that kind of request; it is older than the control plane"))
}

// failure is the end of a stream as the user is told it.
func failure(err error) *nodev1.Result {
	if err == nil {
		return &nodev1.Result{}
	}
	r := &nodev1.Result{Error: err.Error(), Reason: nodev1.Result_NONE}
	switch {
	case errors.Is(err, fault.ErrNotFound):
		r.Reason = nodev1.Result_NOT_FOUND
	case errors.Is(err, fault.ErrInvalid), errors.Is(err, fault.ErrConflict):
		r.Reason = nodev1.Result_INVALID
	case errors.Is(err, fault.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		r.Reason = nodev1.Result_UNAVAILABLE
	}
	return r
}

// named checks that the pod is called as the request says, where it says so.
func (s *Server) named(req *nodev1.StreamRequest) error {
	if req.GetPodName() == "" {
		return nil
	}
	p, err := s.pod(cmp.Or(req.GetExec().GetPodUid(), req.GetAttach().GetPodUid(), req.GetLogs().GetPodUid(), req.GetDial().GetPodUid()))
	if err != nil {
		return err
	}
	if p.Name != req.GetPodName() || p.Namespace != req.GetPodNamespace() {
		return fault.As(fault.ErrNotFound, fmt.Errorf("pod %s/%s is not one that this node runs from a file", req.GetPodNamespace(), req.GetPodName()))
	}
	return nil
}

// pod finds an assigned pod. Its uid differs from the one asked for where that is a mirror pod's.
func (s *Server) pod(uid string) (*v1.Pod, error) {
	p, ok := s.c.Pods.Pod(types.UID(uid))
	if ok {
		if own := p.Annotations[v1.MirrorPodAnnotationKey]; own != "" {
			p, ok = s.c.Pods.Pod(types.UID(own))
		}
	}
	if !ok {
		return nil, fault.As(fault.ErrNotFound, fmt.Errorf("pod %s is not assigned to this node", uid))
	}
	return p, nil
}

// frameSize is how much travels in one frame.
const frameSize = 32 << 10

// sender lets several writers share a stream.
type sender struct {
	mu     sync.Mutex
	stream Stream
}

func (s *sender) send(f *nodev1.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Send(f)
}

// to returns a writer into one channel.
func (s *sender) to(channel nodev1.Frame_Channel) io.Writer { return channelWriter{s, channel} }

type channelWriter struct {
	s       *sender
	channel nodev1.Frame_Channel
}

// Write implements io.Writer.
func (w channelWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		part := p[sent:min(len(p), sent+frameSize)]
		if err := w.s.send(&nodev1.Frame{Channel: w.channel, Data: part}); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}
