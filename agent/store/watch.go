package store

// Change says "look again": the store holds another state of this object, or none.
type Change struct {
	Kind, Namespace, Name, UID string
	Removed                    bool
	// Completed is a change of its own, without a name: the set is now all that concerns the node.
	Completed bool
	// All is a change of its own, without a name: changes were lost, look at everything again.
	All bool
}

// watchBuffer holds what one large batch brings (a node's 110 pods with a few objects each).
// A reader that is further behind loses the single changes and gets one All instead, so
// that a slow reader never holds up the session.
const watchBuffer = 1024

// Watch returns a channel of the changes from now on, closed by Close or Unwatch.
func (s *Store) Watch() <-chan Change {
	c := make(chan Change, watchBuffer)
	s.mu.Lock()
	s.watchers[c] = struct{}{}
	s.mu.Unlock()
	return c
}

// Unwatch ends a channel that Watch returned.
func (s *Store) Unwatch(c <-chan Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		if w == c {
			delete(s.watchers, w)
			close(w)
		}
	}
}

func (s *Store) notify(changes []Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.watchers {
		for _, change := range changes {
			select {
			case c <- change:
			default:
				drain(c)
				c <- Change{All: true} // there is room: only this method sends, under the lock
			}
		}
	}
}

func drain(c chan Change) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}
