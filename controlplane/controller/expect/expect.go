// Package expect remembers what a controller has just done and has not seen yet in its informer,
// so that it does not do it twice on the word of an old cache.
//
// Creations are counted, since their names are not known beforehand; deletions are remembered by
// uid. What is never seen expires, so that a lost event costs time and not the controller.
package expect

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// expiry is how long an event may take to come. Longer than any watch needs to be re-established.
const expiry = 5 * time.Minute

// Expectations of many keys. The zero value is ready. Safe for concurrent use.
type Expectations struct {
	mu   sync.Mutex
	keys map[string]*pending
}

type pending struct {
	creations int
	deletions map[types.UID]bool
	since     time.Time
}

// Expect says beforehand that so many objects will be created and these deleted.
func (e *Expectations) Expect(key string, creations int, deletions []types.UID, now time.Time) {
	if creations == 0 && len(deletions) == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.keys == nil {
		e.keys = map[string]*pending{}
	}
	p := &pending{creations: creations, deletions: map[types.UID]bool{}, since: now}
	for _, uid := range deletions {
		p.deletions[uid] = true
	}
	e.keys[key] = p
}

// Created says that a creation was seen, or that n of those expected will not happen.
func (e *Expectations) Created(key string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.keys[key]; p != nil && p.creations > 0 {
		p.creations = max(0, p.creations-n)
	}
}

// Deleted says that the deletion of uid was seen, or that it will not happen.
func (e *Expectations) Deleted(key string, uid types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.keys[key]; p != nil {
		delete(p.deletions, uid)
	}
}

// Satisfied is true when nothing is awaited for key any more. Otherwise left is how long it may
// still take at most.
func (e *Expectations) Satisfied(key string, now time.Time) (ok bool, left time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.keys[key]
	if p == nil {
		return true, 0
	}
	left = p.since.Add(expiry).Sub(now)
	if (p.creations == 0 && len(p.deletions) == 0) || left <= 0 {
		delete(e.keys, key)
		return true, 0
	}
	return false, left
}

// Forget drops a key that is no more.
func (e *Expectations) Forget(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.keys, key)
}
