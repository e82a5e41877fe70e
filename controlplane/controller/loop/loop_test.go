package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
)

// memory remembers the keys that were reconciled and what was logged.
type memory struct {
	mu   sync.Mutex
	keys []string
	log  strings.Builder
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.log.Write(p)
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.keys)
}

func start(t *testing.T, m *memory, reconcile func(attempt int) error) (l *Loop[string], stop func()) {
	l = New("test", slog.New(slog.NewTextHandler(m, nil)), func(_ context.Context, key string) error {
		m.mu.Lock()
		m.keys = append(m.keys, key)
		n := len(m.keys)
		m.mu.Unlock()
		return reconcile(n)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, 2) }()
	return l, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func TestAFailedKeyComesAgainAndIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m memory
		l, stop := start(t, &m, func(n int) error {
			switch {
			case n <= 5:
				return errors.New("etcd is away")
			case n <= 8:
				return fmt.Errorf("wrapped: %w", errors.New("quota"))
			}
			return nil
		})
		l.Add("k")
		<-time.After(time.Minute)
		stop()
		if m.count() != 9 {
			t.Errorf("%d attempts, want 9", m.count())
		}
		if n := strings.Count(m.log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d lines, want one for each error:\n%s", n, m.log.String())
		}
	})
}

func TestAPanicIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m memory
		l, stop := start(t, &m, func(n int) error {
			if n == 1 {
				panic("a defect")
			}
			return nil
		})
		l.Add("bad")
		l.Add("good")
		<-time.After(time.Minute)
		stop()
		if m.count() != 3 || !strings.Contains(m.log.String(), "a defect") {
			t.Errorf("%d attempts, want 3; log:\n%s", m.count(), m.log.String())
		}
	})
}

func TestNothingBeforeTheFirstListAndNothingAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
		factory := informers.NewSharedInformerFactory(client, 0)
		informer := factory.Core().V1().Nodes().Informer()
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan string, 100) // more than the test makes
		l := New("test", slog.New(slog.DiscardHandler), func(_ context.Context, key string) error {
			seen <- key
			return nil
		})
		l.Add("early")
		done := make(chan error, 1)
		go func() {
			done <- l.Run(ctx, 1, Watch{Informer: informer, Handler: Any(func(n *corev1.Node) { l.Add(n.Name) })})
		}()
		<-time.After(time.Minute)
		if len(seen) != 0 {
			t.Error("a key was reconciled before the informer even ran")
		}
		factoryCtx, stopFactory := context.WithCancel(t.Context())
		factory.Start(factoryCtx.Done())
		<-time.After(time.Second)
		if len(seen) != 2 {
			t.Errorf("%d keys, want early and a", len(seen))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(seen) != 2 {
			t.Error("a handler was called after the end")
		}
		stopFactory()
		factory.Shutdown()
	})
}

func TestDeletionsThatWereMissed(t *testing.T) {
	var got []string
	h := On(nil, nil, func(n *corev1.Node) { got = append(got, n.Name) })
	h.OnDelete(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "seen"}})
	h.OnDelete(cache.DeletedFinalStateUnknown{Key: "x", Obj: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "missed"}}})
	h.OnDelete(&corev1.Pod{})
	if fmt.Sprint(got) != "[seen missed]" {
		t.Errorf("got %v", got)
	}
}
