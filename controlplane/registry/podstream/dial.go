package podstream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	nodev1 "coracle/proto/node/v1"
)

// dial opens a TCP connection to a port of a pod, or of the node where pod is nil.
func (c Config) dial(ctx context.Context, node string, pod *v1.Pod, port int32, inNetns bool) (net.Conn, error) {
	d := &nodev1.Dial{Port: port, InNetns: inNetns}
	req := &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Dial{Dial: d}}
	if pod != nil {
		d.PodUid = string(pod.UID)
		req = about(pod, req)
	}
	s, err := c.Streams.Open(ctx, node, req)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	f, err := s.Recv() // empty when the port has answered
	if !stop() {
		return nil, ctx.Err()
	}
	if err == nil && f.GetResult() != nil {
		err = resultError(f.GetResult())
		if err == nil {
			err = errCut
		}
	}
	if err != nil {
		_ = s.Close()
		if errors.Is(err, io.EOF) {
			err = errCut
		}
		return nil, err
	}
	conn := &streamConn{stream: s, deadline: make(chan struct{})}
	conn.rest = f.GetData()
	return conn, nil
}

// streamConn is a connection carried by a stream: STDIN to the port, STDOUT from it.
type streamConn struct {
	stream Stream

	readMu sync.Mutex
	rest   []byte // received, not yet read
	ended  error

	writeMu sync.Mutex
	once    sync.Once

	timerMu  sync.Mutex
	timer    *time.Timer
	deadline chan struct{} // closed when the deadline has passed
}

// Read implements net.Conn.
func (c *streamConn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for len(c.rest) == 0 && c.ended == nil {
		f, err := c.stream.Recv()
		switch {
		case err != nil:
			c.ended = io.EOF
			select {
			case <-c.deadline:
				c.ended = os.ErrDeadlineExceeded
			default:
				if !errors.Is(err, io.EOF) {
					c.ended = io.ErrUnexpectedEOF
				}
			}
		case f.GetResult() != nil:
			c.ended = io.EOF
			if text := f.GetResult().GetError(); text != "" {
				c.ended = errors.New(text)
			}
		default:
			c.rest = f.GetData()
			if f.GetClose() {
				c.ended = io.EOF
			}
		}
	}
	if len(c.rest) == 0 {
		return 0, c.ended
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write implements net.Conn.
func (c *streamConn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	sent := 0
	for sent < len(p) {
		part := p[sent:min(len(p), sent+frameSize)]
		if err := c.stream.Send(&nodev1.Frame{Channel: nodev1.Frame_STDIN, Data: part}); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}

// CloseWrite ends the direction to the port.
func (c *streamConn) CloseWrite() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.stream.Send(&nodev1.Frame{Channel: nodev1.Frame_STDIN, Close: true})
}

// Close implements net.Conn.
func (c *streamConn) Close() error {
	var err error
	c.once.Do(func() { err = c.stream.Close() })
	return err
}

// SetDeadline implements net.Conn. When it passes, the connection ends: a stream cannot be
// interrupted and go on, and no HTTP client goes on after a deadline either.
func (c *streamConn) SetDeadline(t time.Time) error {
	c.timerMu.Lock()
	defer c.timerMu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if t.IsZero() {
		return nil
	}
	c.timer = time.AfterFunc(time.Until(t), func() {
		c.timerMu.Lock()
		defer c.timerMu.Unlock()
		select {
		case <-c.deadline:
		default:
			close(c.deadline)
		}
		_ = c.Close()
	})
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *streamConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline implements net.Conn. Writing waits for the node's flow control only, which ends with the connection.
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements net.Conn.
func (c *streamConn) LocalAddr() net.Addr { return streamAddr{} }

// RemoteAddr implements net.Conn.
func (c *streamConn) RemoteAddr() net.Addr { return streamAddr{} }

type streamAddr struct{}

// Network implements net.Addr.
func (streamAddr) Network() string { return "node-stream" }

// String implements net.Addr.
func (streamAddr) String() string { return "node-stream" }
