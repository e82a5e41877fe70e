package shutdown

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/internal/testlogind"
)

// podList are pods that end when they are told, but for those that hang.
type podList struct {
	mu    sync.Mutex
	pods  []*v1.Pod
	hang  types.UID
	ended []string
}

func (l *podList) Tenants() []*v1.Pod {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.pods)
}

func (l *podList) End(uid types.UID, f pod.Failed) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = append(l.ended, string(uid)+" "+f.Reason)
	if uid != l.hang {
		l.pods = slices.DeleteFunc(l.pods, func(p *v1.Pod) bool { return p.UID == uid })
	}
	return true
}

func (l *podList) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.ended, ", ")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("after a minute: %s is not so", what)
		case <-tick.C:
		}
	}
}

// TestShutdownAndItsEnd: the lock is taken, pods end by priority, the lock is let go of although one hangs, and is taken anew when the
// shutdown is called off.
func TestShutdownAndItsEnd(t *testing.T) {
	address := testlogind.Bus(t)
	logind := testlogind.New(t, address, 5_000_000)
	pods := &podList{hang: "hangs", pods: []*v1.Pod{newPod("system", 2000000000), newPod("web", 0), newPod("hangs", 1000)}}
	var mu sync.Mutex
	changes, events := 0, []string{}
	s := New(Config{
		Graces: []Grace{{0, 19}, {1000, 1}, {2000000000, 10}}, Pods: pods, DropIns: logind.DropIns, Log: slog.New(slog.DiscardHandler),
		Bus: func(o ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Connect(address, o...) },
		Changed: func() {
			mu.Lock()
			defer mu.Unlock()
			changes++
		},
		Event: func(_, reason, _ string) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, reason)
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "the lock is held", func() bool { n, held := logind.Held(); return n == 1 && held })
	if s.Begun() || pods.all() != "" {
		t.Fatalf("begun without a signal: ended %s", pods.all())
	}
	if delay, asked := logind.Delay(); delay != 30_000_000 || asked[0] != "shutdown coracle-agent delay" {
		t.Errorf("logind waits for %d µs, was asked for %q", delay, asked)
	}

	logind.Prepare(true)
	eventually(t, "the lock is let go of", func() bool { _, held := logind.Held(); return !held })
	if got := pods.all(); got != "web Terminated, hangs Terminated, system Terminated" || !s.Begun() {
		t.Errorf("ended: %s; begun %v", got, s.Begun())
	}
	logind.Prepare(false)
	eventually(t, "the lock is held again", func() bool { n, held := logind.Held(); return n == 2 && held })
	if s.Begun() {
		t.Error("the shutdown was called off and is still told of")
	}
	mu.Lock()
	if changes != 2 || len(events) != 1 || events[0] != "NodeShutdown" {
		t.Errorf("told of %d changes, events %v", changes, events)
	}
	mu.Unlock()

	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("Run does not end")
	}
	eventually(t, "the lock is let go of at the end", func() bool { _, held := logind.Held(); return !held })
}

// TestWithoutLogind: nothing is refused, and it is said once.
func TestWithoutLogind(t *testing.T) {
	var log strings.Builder
	address := testlogind.Bus(t)
	for name, bus := range map[string]func(...dbus.ConnOption) (*dbus.Conn, error){
		"no bus":       func(...dbus.ConnOption) (*dbus.Conn, error) { return nil, os.ErrNotExist },
		"nobody there": func(o ...dbus.ConnOption) (*dbus.Conn, error) { return dbus.Connect(address, o...) },
	} {
		s := New(Config{Graces: []Grace{{0, 1}}, Pods: &podList{}, Bus: bus, DropIns: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err := s.follow(t.Context()); !errors.Is(err, errNoLogind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := New(Config{}).Run(ctx); err != nil {
		t.Errorf("without graces: %v", err)
	}
}
