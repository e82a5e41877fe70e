package etcd

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// expected are warnings that a single member on a socket of its own gives at every start.
var expected = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
	// A new member says so until its first snapshot.
	"failed to update storage version": true,
}

// zapTo hands etcd's log to slog. etcd is talkative at info level: those lines become debug, and its warnings are kept,
// but for the expected ones and, once closing is set, those about its own listeners going away.
func zapTo(log *slog.Logger, closing *atomic.Bool) *zap.Logger {
	return zap.New(&core{log: log, closing: closing})
}

type core struct {
	log     *slog.Logger
	closing *atomic.Bool
}

func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (c *core) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), level(l))
}

func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{log: slog.New(c.log.Handler().WithAttrs(attrs(fields))), closing: c.closing}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return ce
	}
	return ce.AddCore(e, c)
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	l := level(e.Level)
	// What makes etcd end the process is told, also while it closes: the exit code alone says nothing.
	if e.Level < zapcore.DPanicLevel && (expected[e.Message] || c.closing.Load()) {
		l = slog.LevelDebug
	}
	c.log.LogAttrs(context.Background(), l, e.Message, attrs(fields)...)
	return nil
}

func (c *core) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	out := make([]slog.Attr, 0, len(enc.Fields))
	for _, f := range fields {
		if v, ok := enc.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}
