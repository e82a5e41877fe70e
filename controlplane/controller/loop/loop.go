// Package loop runs level-triggered reconcilers: events name a key, workers reconcile keys, one
// worker at a time for one key, and a failed key comes again with a growing delay.
//
// It owns the queue, the workers and the informer handlers of one controller for as long as Run
// lasts. It knows nothing of what is reconciled. Invariants: no worker starts before every watch
// has delivered its first list; after Run returned no handler of it is called any more, so that a
// controller may be run again when its process holds the Lease again.
package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// The delays between attempts at a key that fails: doubled each time from the first to the cap.
const (
	firstDelay = 5 * time.Millisecond
	delayCap   = 2 * time.Minute
)

// Loop reconciles keys of type K. Make one with New; it may be run once.
type Loop[K comparable] struct {
	name      string
	log       *slog.Logger
	queue     workqueue.TypedRateLimitingInterface[K]
	reconcile func(ctx context.Context, key K) error

	mu   sync.Mutex
	errs map[K]string // last error said for a key, so that each change is said once
}

// New returns a loop that calls reconcile for each key that was added. An error means: again,
// later. Conflicts are retried without a word, since they only mean that the cache was old.
func New[K comparable](name string, log *slog.Logger, reconcile func(ctx context.Context, key K) error) *Loop[K] {
	return &Loop[K]{
		name: name,
		log:  log.With("controller", name),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[K](firstDelay, delayCap)),
		reconcile: reconcile,
		errs:      map[K]string{},
	}
}

// Add asks for key to be reconciled soon. Safe for concurrent use.
func (l *Loop[K]) Add(key K) { l.queue.Add(key) }

// AddAfter asks for key to be reconciled after d; at once if d is not positive.
func (l *Loop[K]) AddAfter(key K, d time.Duration) { l.queue.AddAfter(key, d) }

// Watch is an informer and what to do at its events.
type Watch struct {
	Informer cache.SharedIndexInformer // started by the caller of Run, before or after
	Handler  cache.ResourceEventHandler
}

// Run watches, waits for the first lists and reconciles with so many workers until ctx ends. It
// returns nil then, and an error only where a handler cannot be registered.
func (l *Loop[K]) Run(ctx context.Context, workers int, watches ...Watch) error {
	defer l.queue.ShutDown()
	stop, err := Register(ctx, watches...)
	if err != nil {
		return fmt.Errorf("run %s: %w", l.name, err)
	}
	defer stop()
	if ctx.Err() != nil {
		return nil
	}
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			for l.next(ctx) {
			}
			return nil
		})
	}
	<-ctx.Done()
	l.queue.ShutDown()
	return group.Wait()
}

// next reconciles one key; false once the queue is shut down.
func (l *Loop[K]) next(ctx context.Context) bool {
	key, shutdown := l.queue.Get()
	if shutdown {
		return false
	}
	defer l.queue.Done(key)
	if ctx.Err() != nil {
		return true
	}
	err := l.protect(ctx, key)
	l.say(ctx, key, err)
	if err != nil {
		l.queue.AddRateLimited(key)
	} else {
		l.queue.Forget(key)
	}
	return true
}

// protect turns a panic into an error: a defect that one object shows must not stop the others.
func (l *Loop[K]) protect(ctx context.Context, key K) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return l.reconcile(ctx, key)
}

// say logs an error once per change of its text.
func (l *Loop[K]) say(ctx context.Context, key K, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.errs, key)
		return
	}
	if ctx.Err() != nil || apierrors.IsConflict(err) || errors.Is(err, context.Canceled) {
		return
	}
	if text := err.Error(); l.errs[key] != text {
		l.errs[key] = text
		l.log.Error("reconcile", "key", fmt.Sprint(key), "err", err)
	}
}

// Register adds every handler and waits until each was given its informer's first list or ctx
// ended. stop takes the handlers away again.
func Register(ctx context.Context, watches ...Watch) (stop func(), err error) {
	var undo []func()
	stop = func() {
		for _, f := range undo {
			f()
		}
	}
	var synced []cache.InformerSynced
	for _, w := range watches {
		hasSynced, remove, err := Attach(w)
		if err != nil {
			stop()
			return nil, err
		}
		undo = append(undo, remove)
		synced = append(synced, hasSynced)
	}
	cache.WaitForCacheSync(ctx.Done(), synced...)
	return stop, nil
}

// Attach adds the handler. remove takes it away and waits for a call of it that is under way, which the informer's own
// way of removing does not; so it must not be called with a lock that the handler takes.
func Attach(w Watch) (synced cache.InformerSynced, remove func(), err error) {
	g := &gate{to: w.Handler}
	reg, err := w.Informer.AddEventHandler(g)
	if err != nil {
		return nil, nil, fmt.Errorf("register an event handler: %w", err)
	}
	return reg.HasSynced, func() {
		g.close()
		_ = w.Informer.RemoveEventHandler(reg) // fails only on a stopped informer
	}, nil
}

// gate passes events on until it is closed.
type gate struct {
	mu     sync.Mutex
	closed bool
	to     cache.ResourceEventHandler
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// OnAdd implements cache.ResourceEventHandler.
func (g *gate) OnAdd(obj any, initial bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.to.OnAdd(obj, initial)
	}
}

// OnUpdate implements cache.ResourceEventHandler.
func (g *gate) OnUpdate(before, after any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.to.OnUpdate(before, after)
	}
}

// OnDelete implements cache.ResourceEventHandler.
func (g *gate) OnDelete(obj any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.to.OnDelete(obj)
	}
}

// On makes a handler of typed functions, each of which may be nil. del is called with the last
// known state, also where the deletion itself was missed.
func On[T any](add func(T), update func(before, after T), del func(T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(T); ok && add != nil {
				add(o)
			}
		},
		UpdateFunc: func(before, after any) {
			b, bok := before.(T)
			a, aok := after.(T)
			if bok && aok && update != nil {
				update(b, a)
			}
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if o, ok := obj.(T); ok && del != nil {
				del(o)
			}
		},
	}
}

// Any makes a handler that calls f with an object whenever it was added, changed or deleted.
func Any[T any](f func(T)) cache.ResourceEventHandler {
	return On(f, func(_, after T) { f(after) }, f)
}
