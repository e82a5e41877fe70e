package runtime

import (
	"context"
	"sync"
)

// startsAtOnce is how many commands begin in one container at the same time. The shim starts them one after the other
// anyway, and reports their ends under the same lock: where fifty wait for it the ends wait, too, and containerd 1.6
// then takes up to a second for each.
const startsAtOnce = 4

// entrances lets a few in at a time for each key. The zero value is ready for use.
type entrances struct {
	mu   sync.Mutex
	open map[string]*entrance
}

type entrance struct {
	slots chan struct{} // one element for each that is in
	users int           // in or waiting
}

// enter waits for a place, or for the end of ctx. done gives the place back.
func (e *entrances) enter(ctx context.Context, key string) (done func(), err error) {
	e.mu.Lock()
	if e.open == nil {
		e.open = map[string]*entrance{}
	}
	in := e.open[key]
	if in == nil {
		in = &entrance{slots: make(chan struct{}, startsAtOnce)}
		e.open[key] = in
	}
	in.users++
	e.mu.Unlock()
	leave := func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if in.users--; in.users == 0 {
			delete(e.open, key)
		}
	}
	select {
	case in.slots <- struct{}{}:
		return func() { <-in.slots; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
