package runtime

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// copying is a command's output on its way.
type copying struct {
	ended chan struct{}
	once  sync.Once
	cut   bool
}

func (c *copying) Wait() { <-c.ended }

func (c *copying) Cancel() { c.once.Do(func() { c.cut = true; close(c.ended) }) }

// slow takes its time for each write.
type slow struct{ each time.Duration }

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(s.each)
	return len(p), nil
}

func TestDrain(t *testing.T) {
	tests := []struct {
		name   string
		reader time.Duration // what each write takes
		writes int
		pause  time.Duration // between them
		stays  bool          // the other end is never closed
		cut    bool
		took   time.Duration
	}{
		{name: "nothing to come", took: 0},
		{name: "somebody reads slowly", reader: time.Minute, writes: 3, took: 3 * time.Minute},
		{name: "a child talks on", writes: 5, pause: time.Second, took: 5 * time.Second},
		{name: "a child is silent", stays: true, cut: true, took: drainTimeout},
		{name: "a child is silent after a while", writes: 1, reader: time.Minute, stays: true, cut: true, took: time.Minute + drainTimeout},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, f := &copying{ended: make(chan struct{})}, &flow{at: time.Now().Add(-time.Hour)}
				w := f.writer(slow{test.reader})
				go func() {
					for range test.writes {
						time.Sleep(test.pause)
						_, _ = w.Write([]byte("x"))
					}
					if !test.stays {
						c.once.Do(func() { close(c.ended) })
					}
				}()
				began := time.Now()
				drain(c, f)
				if took := time.Since(began); took != test.took || c.cut != test.cut {
					t.Errorf("took %s, cut %v; want %s, %v", took, c.cut, test.took, test.cut)
				}
			})
		})
	}
}
