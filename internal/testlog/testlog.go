// Package testlog lets the parts under test log to the test. It is no part of the shipped programs.
package testlog

import (
	"io"
	"strings"
	"sync"
	"testing"
)

// Writer logs each write to the test. What comes after the test's end is dropped: t.Log would panic, and some library's
// goroutine may outlive the part that started it.
func Writer(t testing.TB) io.Writer {
	w := &writer{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
	})
	return w
}

type writer struct {
	t testing.TB

	mu    sync.Mutex
	ended bool
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}
