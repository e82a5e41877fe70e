// Package clientlog hands what the etcd clients of k8s.io/apiserver log to slog.
//
// That library makes one logger for all its etcd clients when its package is initialised, from etcd's default
// configuration, and offers no other way to it: left alone it prints JSON lines to standard error. So the default
// configuration is changed before, in an initialisation of this package. Go initialises packages in the order of their
// paths as far as their imports allow; everything imported here is imported there, so this package comes first.
//
// While etcd is away each request is tried again and again and says so each time: a message that repeats is told once in
// a while, with how often it came meanwhile.
package clientlog

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap"
)

const (
	scheme = "coracle-etcd-client"
	// interval is how often the same message is told.
	interval = time.Minute
	// tracked bounds the messages remembered; the client knows a dozen.
	tracked = 64
)

var clients = &sink{now: time.Now, told: map[string]*repeat{}}

// installed is the error of redirecting the default configuration, told by To.
var installed = install()

func install() error {
	err := zap.RegisterSink(scheme, func(*url.URL) (zap.Sink, error) { return clients, nil })
	if err == nil {
		logutil.DefaultZapLoggerConfig.OutputPaths = []string{scheme + "://clients"}
	}
	return err
}

// To sends what the clients log from now on to log; before the first call it is dropped.
func To(log *slog.Logger) {
	if installed != nil {
		log.Warn("etcd's client logs to standard error", "err", installed)
	}
	clients.mu.Lock()
	defer clients.mu.Unlock()
	clients.log = log
}

// sink takes lines of JSON. It is a zap.Sink, safe for concurrent use.
type sink struct {
	now func() time.Time

	mu   sync.Mutex
	log  *slog.Logger
	told map[string]*repeat
}

// repeat is when a message was last told, and how often it came since.
type repeat struct {
	at      time.Time
	dropped int
}

// line is what is read of an entry; the rest (caller, address of the client) says nothing to a person.
type line struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	Method  string `json:"method"`
	Error   string `json:"error"`
}

// Write implements zap.Sink. Each call is one entry.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return len(p), nil
	}
	var l line
	if err := json.Unmarshal(p, &l); err != nil {
		l = line{Level: "warn", Message: strings.TrimSpace(string(p))}
	}
	level := levelOf(l.Level)
	if strings.Contains(l.Error, context.Canceled.Error()) {
		level = slog.LevelDebug // whoever asked went away
	}
	if !s.log.Enabled(context.Background(), level) {
		return len(p), nil
	}
	attrs := []slog.Attr{slog.String("part", "etcd client")}
	if level > slog.LevelDebug {
		dropped, tell := s.due(l.Message)
		if !tell {
			return len(p), nil
		}
		if dropped > 0 {
			attrs = append(attrs, slog.Int("repeated", dropped))
		}
	}
	if l.Method != "" {
		attrs = append(attrs, slog.String("method", l.Method))
	}
	if l.Error != "" {
		attrs = append(attrs, slog.String("err", l.Error))
	}
	s.log.LogAttrs(context.Background(), level, l.Message, attrs...)
	return len(p), nil
}

// due says whether the message is to be told now, and how many of its kind were not since it was last.
func (s *sink) due(message string) (dropped int, tell bool) {
	now := s.now()
	r := s.told[message]
	if r != nil && now.Sub(r.at) < interval {
		r.dropped++
		return 0, false
	}
	if r == nil {
		if len(s.told) >= tracked {
			clear(s.told)
		}
		r = &repeat{}
		s.told[message] = r
	}
	dropped, r.at, r.dropped = r.dropped, now, 0
	return dropped, true
}

// levelOf is the level of an entry. As with the embedded server, etcd's info is this program's debug.
func levelOf(name string) slog.Level {
	switch name {
	case "debug", "info":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	}
	return slog.LevelError
}

// Sync implements zap.Sink.
func (*sink) Sync() error { return nil }

// Close implements zap.Sink.
func (*sink) Close() error { return nil }
