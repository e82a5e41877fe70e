package logwriter

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"
)

// The socket's protocol: the agent sends one line of JSON, the log writer answers with frames
// of one byte kind, four bytes length (big endian) and that many bytes, and hangs up.
const (
	frameEnd    byte = 0 // the streams have ended; no content
	frameStdout byte = 1
	frameStderr byte = 2
	frameError  byte = 3 // content is the reason
	frameReady  byte = 4 // following has begun; no content

	maxFrame = 1 << 20
)

type request struct {
	Op string `json:"op"` // "follow" or "drain"
	ID string `json:"id"`
}

// requestTimeout bounds how long a peer may take to say what it wants.
const requestTimeout = 5 * time.Second

var errSlow = errors.New("the reader is too slow for the container's output")

// follower is one attached reader. Frames wait in a bounded queue (64 reads, at most 2 MiB);
// a reader that lets it overflow is cut off.
type follower struct {
	frames chan []byte
	once   sync.Once
	ended  chan struct{}
	err    error
}

func newFollower() *follower {
	return &follower{frames: make(chan []byte, 64), ended: make(chan struct{})}
}

func (f *follower) offer(frame []byte) bool {
	select {
	case f.frames <- frame:
		return true
	default:
		return false
	}
}

func (f *follower) finish(err error) {
	f.once.Do(func() { f.err = err; close(f.ended) })
}

func appendFrame(dst []byte, kind byte, content []byte) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(content)))
	return append(dst, content...)
}

func readFrame(r io.Reader, buf []byte) (kind byte, content []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes is longer than %d", size, maxFrame)
	}
	if int(size) > cap(buf) {
		buf = make([]byte, size)
	}
	content = buf[:size]
	if _, err := io.ReadFull(r, content); err != nil {
		return 0, nil, err
	}
	return head[0], content, nil
}

// listen replaces a socket that a killed log writer left.
func (w *Writer) listen() (net.Listener, error) {
	if err := os.Remove(w.cfg.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("log writer: remove old socket: %w", err)
	}
	l, err := net.Listen("unix", w.cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("log writer: %w", err)
	}
	if err := os.Chmod(w.cfg.Socket, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("log writer: %w", err), l.Close())
	}
	return l, nil
}

func (w *Writer) serve(ctx context.Context, l net.Listener) {
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				w.log.Error("log socket stopped accepting", "err", err)
			}
			return
		}
		conns.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			w.answer(conn)
		})
	}
}

func (w *Writer) answer(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	line, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadBytes('\n')
	if err != nil {
		return // a peer that hung up before asking
	}
	_ = conn.SetReadDeadline(time.Time{})
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		w.refuse(conn, fmt.Errorf("parse request: %w", err))
		return
	}
	switch req.Op {
	case "follow":
		w.follow(conn, req.ID)
	case "drain":
		w.drain(conn, req.ID)
	default:
		w.refuse(conn, fmt.Errorf("unknown request %q", req.Op))
	}
}

func (w *Writer) refuse(conn net.Conn, err error) {
	_, _ = conn.Write(appendFrame(nil, frameError, []byte(err.Error())))
}

func (w *Writer) follow(conn net.Conn, id string) {
	f := newFollower()
	w.mu.Lock()
	c := w.find(id)
	if c == nil {
		w.mu.Unlock()
		w.refuse(conn, fmt.Errorf("container %s has no log here", id))
		return
	}
	select {
	case <-c.drained:
		f.finish(nil)
	default:
		c.followers[f] = struct{}{}
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(c.followers, f)
		w.mu.Unlock()
	}()
	if _, err := conn.Write(appendFrame(nil, frameReady, nil)); err != nil {
		return
	}
	gone := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { // the peer says nothing more: a read ends when it hangs up
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
	})
	defer watch.Wait()
	defer conn.Close()
	for {
		select {
		case frame := <-f.frames:
			if _, err := conn.Write(frame); err != nil {
				return
			}
		case <-gone:
			return
		case <-f.ended:
			w.finish(conn, f)
			return
		}
	}
}

// finish sends what is still queued and how the stream ended.
func (w *Writer) finish(conn net.Conn, f *follower) {
	for {
		select {
		case frame := <-f.frames:
			if _, err := conn.Write(frame); err != nil {
				return
			}
			continue
		default:
		}
		break
	}
	if f.err != nil {
		w.refuse(conn, f.err)
		return
	}
	_, _ = conn.Write(appendFrame(nil, frameEnd, nil))
}

// drain answers when everything that the container wrote is in its log file.
func (w *Writer) drain(conn net.Conn, id string) {
	w.mu.Lock()
	c := w.find(id)
	if c == nil {
		w.mu.Unlock()
		w.refuse(conn, fmt.Errorf("container %s has no log here", id))
		return
	}
	now := time.Now()
	for _, s := range c.streams {
		for !s.eof {
			empty, noWriter := w.pump(s, now)
			if noWriter {
				w.end(s, 'F', now)
			}
			if empty {
				break
			}
		}
	}
	drained := c.drained
	if len(c.streams) == 0 {
		drained = nil
	}
	w.mu.Unlock()
	gone := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
	})
	defer watch.Wait()
	defer conn.Close()
	select {
	case <-drained:
		_, _ = conn.Write(appendFrame(nil, frameEnd, nil))
	case <-gone:
	}
}

// find looks once more at the directory for a container that was registered a moment ago.
func (w *Writer) find(id string) *container {
	if c := w.containers[id]; c != nil {
		return c
	}
	w.rescan()
	return w.containers[id]
}
