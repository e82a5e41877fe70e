package testwait

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// recorder is a test that is expected to fail.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.said += fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failure is what a test says that does this.
func failure(t *testing.T, do func(testing.TB)) string {
	r := &recorder{TB: t}
	var g sync.WaitGroup
	g.Go(func() { do(r) })
	g.Wait()
	return r.said
}

func TestEachWaitHasAWayOut(t *testing.T) {
	for want, do := range map[string]func(testing.TB){
		"a ship: it did not happen in 1m30s": func(t testing.TB) { Until(t, "a ship", func() bool { return false }) },
		"a ship: not in 1m30s: on the reef":  func(t testing.TB) { Nil(t, "a ship", func() error { return errors.New("on the reef") }) },
		"a ship: nothing came in 1m30s":      func(t testing.TB) { Receive(t, "a ship", make(chan int)) },
		"a port: nothing came in 1m30s":      func(t testing.TB) { End(t, "a port", func() { Receive(t, "a ship", make(chan int)) }) },
	} {
		synctest.Test(t, func(t *testing.T) {
			if said := failure(t, do); !strings.Contains(said, want) || !strings.Contains(said, "testwait.") {
				t.Errorf("said %q, want %q and stacks", said, want)
			}
		})
	}
}

func TestWaitsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		Until(t, "three", func() bool { n++; return n == 3 })
		Nil(t, "six", func() error {
			if n++; n < 6 {
				return errors.New("not yet")
			}
			return nil
		})
		c := make(chan int, 1)
		c <- 7
		End(t, "nothing", func() {})
		if got := Receive(t, "seven", c); got != 7 || n != 6 {
			t.Errorf("got %d and %d", got, n)
		}
	})
}

func TestRun(t *testing.T) {
	said := failure(t, func(t testing.TB) {
		stop := Run(t, "the boat", func(ctx context.Context) error { <-ctx.Done(); return errors.New("sank") })
		stop()
		stop()
	})
	if said != "the boat: sank" {
		t.Errorf("said %q", said)
	}
}
