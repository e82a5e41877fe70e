package runtime

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestEntrances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e entrances
		var mu sync.Mutex
		inside, most := 0, 0
		var all sync.WaitGroup
		began := time.Now()
		for range 10 * startsAtOnce {
			all.Go(func() {
				done, err := e.enter(t.Context(), "c")
				if err != nil {
					t.Error(err)
					return
				}
				defer done()
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				<-time.After(time.Second)
				mu.Lock()
				inside--
				mu.Unlock()
			})
		}
		synctest.Wait()
		// Another container's does not wait, and who gives up is let go.
		done, err := e.enter(t.Context(), "d")
		if err != nil {
			t.Fatal(err)
		}
		done()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if _, err := e.enter(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("entered where there is no place: %v", err)
		}
		all.Wait()
		if most != startsAtOnce || time.Since(began) != 10*time.Second {
			t.Errorf("%d at once, %s in all", most, time.Since(began))
		}
		if len(e.open) != 0 {
			t.Errorf("entrances are left: %v", e.open)
		}
	})
}
