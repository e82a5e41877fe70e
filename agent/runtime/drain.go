package runtime

import (
	"io"
	"sync"
	"time"
)

// flow notices whether output still moves.
type flow struct {
	mu    sync.Mutex
	under int       // writes under way
	at    time.Time // the end of the last one
}

// writer passes writes on to to.
func (f *flow) writer(to io.Writer) io.Writer { return flowWriter{f, to} }

// quiet is how long nothing has moved; 0 while somebody takes his time to read.
func (f *flow) quiet(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.under > 0 {
		return 0
	}
	return now.Sub(f.at)
}

func (f *flow) move(by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under += by
	f.at = time.Now()
}

type flowWriter struct {
	f  *flow
	to io.Writer
}

// Write implements io.Writer.
func (w flowWriter) Write(p []byte) (int, error) {
	w.f.move(1)
	defer w.f.move(-1)
	return w.to.Write(p)
}

// waiter is the copying of a command's streams.
type waiter interface {
	Cancel()
	Wait()
}

// drain waits until the output has been copied, or nothing of it has moved for drainTimeout.
func drain(streams waiter, output *flow) {
	if streams == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		streams.Wait()
	}()
	output.move(0) // what has been silent so far may have its last words
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-timer.C:
			if left := drainTimeout - output.quiet(time.Now()); left > 0 {
				timer.Reset(left)
				continue
			}
			streams.Cancel()
			<-done
			return
		}
	}
}
