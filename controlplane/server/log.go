package server

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"k8s.io/klog/v2"

	"coracle/controlplane/etcd/clientlog"
)

// captureLogs sends what the Kubernetes libraries, and their clients of etcd, log to log: errors and warnings as they are, the
// rest, which tells of every controller that starts, as debug.
//
// The libraries have one logger for the process: where several control planes run in one, it is the first one's.
func captureLogs(log *slog.Logger) {
	captured.Do(func() {
		klog.SetSlogLogger(slog.New(quieter{log.Handler()}))
		clientlog.To(log)
	})
}

var captured sync.Once

// abandoned is in what the libraries log as errors when a client goes away before its answer, or at the ordinary end of
// a stream.
var abandoned = []string{"http: Handler timeout", "use of closed network connection"}

// reconnects is in what gRPC says at each try to connect, for each of some fifty clients of etcd. The requests that fail
// meanwhile are told by clientlog.
const reconnects = "grpc: addrConn.createTransport failed to connect"

// quieter lowers info, clients that went away, and tries to connect, to debug.
type quieter struct{ slog.Handler }

func (q quieter) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, lowered(l))
}

func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lowered(r.Level)
	if strings.Contains(r.Message, reconnects) {
		r.Level = slog.LevelDebug
	}
	r.Attrs(func(a slog.Attr) bool {
		for _, text := range abandoned {
			if strings.Contains(a.Value.String(), text) {
				r.Level = slog.LevelDebug
			}
		}
		return true
	})
	if !q.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

func (q quieter) WithAttrs(a []slog.Attr) slog.Handler { return quieter{q.Handler.WithAttrs(a)} }
func (q quieter) WithGroup(n string) slog.Handler      { return quieter{q.Handler.WithGroup(n)} }

func lowered(l slog.Level) slog.Level {
	if l < slog.LevelWarn {
		return min(l, slog.LevelDebug)
	}
	return l
}
