package scheduler

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"coracle/controlplane/scheduler/decide"
)

const (
	// firstDelay and delayCap bound how long a pod waits after an attempt that did not work, doubled each time.
	firstDelay = time.Second
	delayCap   = 10 * time.Second
	// parkedLimit is after how long a pod that nothing woke is tried again all the same, in case a change was lost.
	parkedLimit = 5 * time.Minute
)

// place is where an entry of the queue is.
//
//	ready → busy (popped) → gone (bound) | parked (no node fits) | waiting (to be tried after a delay)
//	parked → waiting (something changed that may help);  waiting → ready (time) | busy (nothing else is ready)
type place int

const (
	ready place = iota
	busy
	parked
	waiting
)

// entry is a pod that needs a node.
type entry struct {
	pod      *decide.Pod
	place    place
	attempts int
	since    time.Time // when it came: the older goes first among equals
	due      time.Time // waiting: until then; parked: tried again by then at the latest
	wake     decide.Wake
	missed   decide.Wake // what happened while it was busy
	hopeful  bool        // waiting, but something happened that may help: tried at once when nothing else is ready
	fresh    *decide.Pod // a newer state that came while it was busy
}

// queue holds the pods that need a node. Level-triggered: an entry is a pod, not an event, and what happens
// while it is busy is not lost. Safe for concurrent use, but for pop by one goroutine at a time.
type queue struct {
	now     func() time.Time
	mu      sync.Mutex
	entries map[types.UID]*entry
	signal  chan struct{} // one place: a pop that missed a signal looks again
}

func newQueue(now func() time.Time) *queue {
	return &queue{now: now, entries: map[types.UID]*entry{}, signal: make(chan struct{}, 1)}
}

func (q *queue) notify() {
	select {
	case q.signal <- struct{}{}:
	default: // one is pending already
	}
}

// set adds a pod or, where its spec or labels changed, tries it again with what is new.
func (q *queue) set(pod *decide.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[pod.UID]
	switch {
	case e == nil:
		q.entries[pod.UID] = &entry{pod: pod, place: ready, since: q.now()}
	case e.place == busy:
		e.fresh = pod
	default:
		e.pod, e.place = pod, ready
	}
	q.notify()
}

// remove drops a pod that was deleted or has a node.
func (q *queue) remove(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.entries, uid)
}

// pop waits for the next pod: by priority, then by age. ok is false once ctx ended.
func (q *queue) pop(ctx context.Context) (pod *decide.Pod, ok bool) {
	for {
		best, next := q.take()
		if best != nil {
			return best.pod, true
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, false
		case <-q.signal:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take makes the best entry busy, or says how long until one becomes ready by time.
func (q *queue) take() (*entry, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	next := parkedLimit
	var best, hope *entry
	for _, e := range q.entries {
		if (e.place == waiting || e.place == parked) && !e.due.After(now) {
			e.place = ready
		}
		switch e.place {
		case ready:
			if best == nil || before(e, best) {
				best = e
			}
		case waiting, parked:
			next = min(next, e.due.Sub(now))
			if e.hopeful && (hope == nil || before(e, hope)) {
				hope = e
			}
		}
	}
	if best == nil {
		best = hope
	}
	if best != nil {
		best.place, best.missed, best.fresh, best.hopeful = busy, 0, nil, false
		best.attempts++
	}
	return best, next
}

func before(a, b *entry) bool {
	return cmp.Or(cmp.Compare(b.pod.Priority(), a.pod.Priority()), a.since.Compare(b.since),
		cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name)) < 0
}

func delay(attempts int) time.Duration {
	d := firstDelay
	for range attempts - 1 {
		if d *= 2; d >= delayCap {
			return delayCap
		}
	}
	return d
}

// park puts a busy pod aside until something that may help happens; if it did meanwhile, only until there is time.
func (q *queue) park(uid types.UID, wake decide.Wake) {
	q.settle(uid, func(e *entry) {
		e.wake = wake
		if e.missed&wake != 0 {
			e.place, e.due, e.hopeful = waiting, q.now().Add(delay(e.attempts)), true
			return
		}
		e.place, e.due = parked, q.now().Add(parkedLimit)
	})
}

// retry tries a busy pod again after a delay.
func (q *queue) retry(uid types.UID) {
	q.settle(uid, func(e *entry) { e.place, e.due = waiting, q.now().Add(delay(e.attempts)) })
}

func (q *queue) settle(uid types.UID, put func(*entry)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[uid]
	if e == nil || e.place != busy {
		return
	}
	if e.fresh != nil {
		e.pod, e.fresh, e.place = e.fresh, nil, ready
	} else {
		put(e)
	}
	q.notify()
}

// moved says what happened to nodes and pods in place; parked pods that it may help are tried again. Their delay lets
// others go first; where there are none it would only make a pod wait for a node that became ready a moment ago.
func (q *queue) moved(what decide.Wake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	woken := false
	for _, e := range q.entries {
		switch {
		case e.place == busy:
			e.missed |= what
		case e.place == parked && e.wake&what != 0:
			e.place, e.hopeful = waiting, true
			tried := e.due.Add(-parkedLimit)
			e.due = tried.Add(delay(e.attempts))
			woken = true
		}
	}
	if woken {
		q.notify()
	}
}

// pending lists the pods in the queue, for tests and debugging, sorted as they would be popped.
func (q *queue) pending() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []*entry
	for _, e := range q.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int {
		if before(a, b) {
			return -1
		}
		return 1
	})
	var names []string
	for _, e := range list {
		names = append(names, e.pod.Namespace+"/"+e.pod.Name)
	}
	return names
}
