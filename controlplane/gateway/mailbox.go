package gateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/util/workqueue"
)

// mailbox holds the latest value for each key and has workers look at it: one worker at a
// time for a key, many keys at a time, back-off for each key that fails. A value stays until
// it is removed or replaced, so that a key can be looked at again.
type mailbox[K comparable, V any] struct {
	what  string
	queue workqueue.TypedRateLimitingInterface[K]

	mu     sync.Mutex
	latest map[K]V
}

const (
	minRetry = 50 * time.Millisecond // a conflict is over as soon as the informer has caught up
	maxRetry = 30 * time.Second
)

func newMailbox[K comparable, V any](what string) *mailbox[K, V] {
	return &mailbox[K, V]{
		what:   what,
		queue:  workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[K](minRetry, maxRetry)),
		latest: map[K]V{},
	}
}

func (m *mailbox[K, V]) put(k K, v V) {
	m.mu.Lock()
	m.latest[k] = v
	m.mu.Unlock()
	m.queue.Forget(k) // what is new is not to wait for what failed
	m.queue.Add(k)
}

// hold is put for a value that may wait: it is looked at after d, unless a newer one comes before.
func (m *mailbox[K, V]) hold(k K, v V, d time.Duration) {
	m.mu.Lock()
	m.latest[k] = v
	m.mu.Unlock()
	m.queue.Forget(k)
	m.queue.AddAfter(k, d)
}

// again has the value looked at again, where there is one.
func (m *mailbox[K, V]) again(k K) {
	if _, ok := m.get(k); ok {
		m.queue.Add(k)
	}
}

// after has the key looked at later.
func (m *mailbox[K, V]) after(k K, d time.Duration) { m.queue.AddAfter(k, d) }

func (m *mailbox[K, V]) get(k K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.latest[k]
	return v, ok
}

// remove drops the values for which f says so; remaining work on them finds nothing.
func (m *mailbox[K, V]) remove(f func(K, V) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, v := range m.latest {
		if f(k, v) {
			delete(m.latest, k)
		}
	}
}

// run has workers call handle until ctx ends. An error means "later again".
func (m *mailbox[K, V]) run(ctx context.Context, workers int, log *slog.Logger, handle func(context.Context, K) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		m.queue.ShutDown()
		return nil
	})
	for range workers {
		group.Go(func() error {
			for {
				k, down := m.queue.Get()
				if down {
					return nil
				}
				if err := handle(ctx, k); err != nil && ctx.Err() == nil {
					// The first failures are conflicts and restarts, which mend themselves.
					if m.queue.NumRequeues(k) == 5 {
						log.Warn("report not taken into the API yet", "what", m.what, "key", k, "err", err)
					}
					m.queue.AddRateLimited(k)
				} else {
					m.queue.Forget(k)
				}
				m.queue.Done(k)
			}
		})
	}
	return group.Wait()
}
