// Package testwait lets a test wait for what other goroutines and processes do. Each wait has a way out: when the time is
// up the test fails with a sentence that says what it waited for, and with the stacks of all goroutines, which say why. It
// is no part of the shipped programs.
package testwait

import (
	"bytes"
	"context"
	"runtime/pprof"
	"sync"
	"testing"
	"time"
)

// Patience is how long a wait lasts at most. What is waited for takes milliseconds on an idle machine; this is for one
// whose cores and disks are busy with other things, and still ends well before the test binary's own time is up.
const Patience = 90 * time.Second

// Until returns when done says true. It asks every few milliseconds.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: it did not happen in %s\n%s", what, Patience, stacks())
		}
	}
}

// Nil returns when ask returns nil, and fails the test with its last error otherwise.
func Nil(t testing.TB, what string, ask func() error) {
	t.Helper()
	var last error
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	for {
		if last = ask(); last == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not in %s: %v\n%s", what, Patience, last, stacks())
		}
	}
}

// Receive returns the next value of a channel. A channel that is closed gives the zero value, as usual.
func Receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	select {
	case v := <-from:
		return v
	case <-deadline.C:
		t.Fatalf("%s: nothing came in %s\n%s", what, Patience, stacks())
		panic("not reached")
	}
}

// End returns when wait does, which is the Wait of a WaitGroup or of a command.
func End(t testing.TB, what string, wait func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() { defer close(ended); wait() }()
	Receive(t, what, ended)
}

// Run has a long-lived part run until stop is called or the test ends. stop returns when the part has; an error of the
// part fails the test.
func Run(t testing.TB, what string, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := Receive(t, what+" is to end", ended); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// stacks is where all goroutines are, those with equal stacks together.
func stacks() string {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1) // a Buffer takes all
	return b.String()
}
