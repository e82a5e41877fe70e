package stats

import (
	"sync"
	"time"
)

const (
	// freshFor is how long a rate is given again without a new reading, so that callers at different intervals do not
	// shorten each other's windows to nothing.
	freshFor = 5 * time.Second
	// leastWindow is the shortest time that makes a rate: the counters move in steps of a scheduler tick.
	leastWindow = time.Second
	// staleAfter is when a reading is too old to say anything about now.
	staleAfter = 2 * time.Minute
)

// rate is a mean over a window that ended at a time.
type rate struct {
	nanoCores uint64
	window    time.Duration
	at        time.Time
}

// reading is the last look at a CPU counter, and the rate that came of it.
type reading struct {
	at   time.Time
	used time.Duration
	rate rate // zero window: none yet
}

// rates keeps the last reading of each counter. The zero value is ready for use.
type rates struct {
	mu   sync.Mutex
	last map[string]reading
}

// forget drops the readings that are too old to be of use, those of groups that are gone among them.
func (r *rates) forget(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, old := range r.last {
		if now.Sub(old.at) > staleAfter {
			delete(r.last, key)
		}
	}
}

// observe takes a reading and returns the rate. began is when the counter stood at zero: what has not run for long
// has a rate from its first reading. False: a second reading is needed, leastWindow from now.
func (r *rates) observe(key string, now, began time.Time, used time.Duration) (rate, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]reading{}
	}
	old, known := r.last[key]
	age := now.Sub(old.at)
	switch {
	case !known, used < old.used, age < 0, age > staleAfter:
		next := reading{at: now, used: used}
		if life := now.Sub(began); !began.IsZero() && life >= leastWindow && life <= staleAfter {
			next.rate = over(now, life, used)
		}
		r.last[key] = next
		return next.rate, next.rate.window > 0
	case age < leastWindow, age < freshFor && old.rate.window > 0:
		return old.rate, old.rate.window > 0
	}
	next := reading{at: now, used: used, rate: over(now, age, used-old.used)}
	r.last[key] = next
	return next.rate, true
}

func over(at time.Time, window, used time.Duration) rate {
	return rate{nanoCores: uint64(float64(used) / window.Seconds()), window: window, at: at}
}
