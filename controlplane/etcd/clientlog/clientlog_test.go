package clientlog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestDefaultLoggerIsRedirected(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clients.now = func() time.Time { return now }
	t.Cleanup(func() { clients.now, clients.log, clients.told = time.Now, nil, map[string]*repeat{} })
	logger, err := logutil.CreateDefaultZapLogger(zapcore.InfoLevel)
	if err != nil {
		t.Fatal(err)
	}
	retry := func() {
		logger.Named("etcd-client").Warn("retrying", zap.String("target", "etcd-endpoints://0x1/"), zap.String("method", "/KV/Range"), zap.Error(errors.New("refused")))
	}
	retry() // nobody listens yet
	To(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	for range 5 {
		retry()
	}
	logger.Info("says little")
	logger.Warn("abandoned", zap.Error(context.Canceled))
	logger.Error("another message")
	now = now.Add(interval)
	retry()
	retry()
	want := `level=WARN msg=retrying part="etcd client" method=/KV/Range err=refused
level=ERROR msg="another message" part="etcd client"
level=WARN msg=retrying part="etcd client" repeated=4 method=/KV/Range err=refused
`
	if out.String() != want {
		t.Errorf("logged\n%swant\n%s", out.String(), want)
	}
}

func TestMessagesRememberedAreBounded(t *testing.T) {
	s := &sink{now: time.Now, told: map[string]*repeat{}}
	for i := range 3 * tracked {
		if _, tell := s.due(strings.Repeat("x", i)); !tell {
			t.Fatalf("message %d is new and was not told", i)
		}
		if len(s.told) > tracked {
			t.Fatalf("%d messages are remembered, at most %d may be", len(s.told), tracked)
		}
	}
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte(`{"level":"warn","msg":"x"}`))
	f.Add([]byte("not JSON"))
	f.Fuzz(func(t *testing.T, p []byte) {
		s := &sink{now: time.Now, told: map[string]*repeat{}, log: slog.New(slog.DiscardHandler)}
		if n, err := s.Write(p); n != len(p) || err != nil {
			t.Errorf("wrote %d of %d: %v", n, len(p), err)
		}
	})
}
