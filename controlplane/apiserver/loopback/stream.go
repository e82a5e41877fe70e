package loopback

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
)

const (
	// streamBuffer is what a handler may write ahead of its reader; then it waits.
	streamBuffer = 64 << 10
	// streamKept is the buffer that a silent stream keeps.
	streamKept = 4 << 10
)

// stream is a response whose body is read while it is written.
//
//	handler: Write … Flush ─▶ buffer ─▶ Read: caller
//
// The reader is woken by Flush, so that the two writes of a frame wake it once.
type stream struct {
	header  http.Header
	code    int
	started chan struct{} // closed when header and code stand
	start   sync.Once
	cancel  context.CancelFunc

	mu      sync.Mutex
	changed sync.Cond // of the fields below
	buffer  bytes.Buffer
	flushed bool
	err     error // what Read returns once the buffer is empty
	closed  bool  // by the reader
}

func newStream(cancel context.CancelFunc) *stream {
	s := &stream{header: http.Header{}, started: make(chan struct{}), cancel: cancel}
	s.changed.L = &s.mu
	return s
}

// Header implements http.ResponseWriter. The handler may not touch the header after WriteHeader.
func (s *stream) Header() http.Header {
	select {
	case <-s.started:
		return s.header.Clone() // read by the caller now
	default:
		return s.header
	}
}

// WriteHeader implements http.ResponseWriter.
func (s *stream) WriteHeader(code int) {
	s.start.Do(func() {
		s.code = code
		close(s.started)
	})
}

// Write implements http.ResponseWriter.
func (s *stream) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.buffer.Len() > streamBuffer && s.err == nil {
		s.flush()
		s.changed.Wait()
	}
	if s.err != nil {
		return 0, io.ErrClosedPipe
	}
	return s.buffer.Write(p)
}

// Flush implements http.Flusher.
func (s *stream) Flush() {
	s.WriteHeader(http.StatusOK)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
}

func (s *stream) flush() {
	s.flushed = true
	s.changed.Broadcast()
}

// CloseNotify implements http.CloseNotifier, by which the library knows a writer that can flush. Nobody listens to it: the
// request's context says the same.
func (s *stream) CloseNotify() <-chan bool { return make(chan bool) }

// end is the end of the body: by the handler (io.EOF), by the caller's context, or by Close.
func (s *stream) end(err error) {
	s.WriteHeader(http.StatusOK)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.changed.Broadcast()
	s.cancel()
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for (s.buffer.Len() == 0 || !s.flushed) && s.err == nil {
		s.changed.Wait()
	}
	if s.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	if s.buffer.Len() == 0 {
		return 0, s.err
	}
	n, err := s.buffer.Read(p)
	if s.buffer.Len() == 0 {
		s.flushed = false
		if s.buffer.Cap() > streamKept {
			s.buffer = bytes.Buffer{}
		}
	}
	s.changed.Broadcast()
	return n, err
}

// Close implements io.Closer: the handler's context ends.
func (s *stream) Close() error {
	s.end(http.ErrBodyReadAfterClose)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
