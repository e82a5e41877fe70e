package logwriter

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// pipeSize is what the kernel holds for a container while nobody reads, in bytes: the time a
// log writer may take to come back before a chatty container has to wait.
const pipeSize = 256 * 1024

// stream is the reading end of one FIFO. It is opened read-only and without blocking, so that
// the end of the last writer, the container's shim, is seen as end of file. Before the first
// writer has come a read gives nothing either; epoll tells the two apart.
type stream struct {
	c    *container
	enc  encoder
	kind byte // frameStdout or frameStderr
	fd   int
	eof  bool
}

// container is one registered container. The states of its streams:
//
//	registered → open → end of file → closed; unregistering closes from any state
type container struct {
	id      string
	file    logFile
	streams []*stream

	followers map[*follower]struct{}
	// drained is closed when every stream is at its end.
	drained chan struct{}
	// failing is the last error of the log file, kept so that only a change is logged.
	failing string
}

func openStream(c *container, name, path string, kind byte) (*stream, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open fifo %s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, errors.Join(fmt.Errorf("open fifo %s: it is not a fifo", path), err, unix.Close(fd))
	}
	// A kernel that refuses the larger pipe (fs.pipe-user-pages-soft) leaves its own size: nothing is lost by it.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
	return &stream{c: c, fd: fd, kind: kind, enc: encoder{stream: name}}, nil
}

// pump reads what is there, up to a bound that keeps one container from starving the others,
// and hands it on. It reports whether the FIFO has nothing more now, and whether that is
// because nobody has it open for writing.
func (w *Writer) pump(s *stream, now time.Time) (empty, noWriter bool) {
	const rounds = 16
	for range rounds {
		n, err := unix.Read(s.fd, w.buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return true, false
		case err != nil:
			w.report(s.c, fmt.Errorf("read fifo: %w", err))
			return true, true
		case n == 0:
			return true, true
		}
		raw := w.buf[:n]
		w.out = s.enc.encode(w.out[:0], raw, now)
		w.report(s.c, s.c.file.write(w.out, now))
		s.c.fanOut(s.kind, raw)
		if n < len(w.buf) {
			return true, false
		}
	}
	return false, false
}

// end closes a stream for good, writing out an unfinished line, and with the last one the file.
func (w *Writer) end(s *stream, tag byte, now time.Time) {
	if s.eof {
		return
	}
	s.eof = true
	w.out = s.enc.flush(w.out[:0], tag, now)
	w.report(s.c, s.c.file.write(w.out, now))
	s.enc.held = nil
	delete(w.byFD, s.fd)
	if err := unix.Close(s.fd); err != nil {
		w.report(s.c, fmt.Errorf("close fifo: %w", err))
	}
	for _, other := range s.c.streams {
		if !other.eof {
			return
		}
	}
	w.report(s.c, s.c.file.close())
	close(s.c.drained)
	for f := range s.c.followers {
		f.finish(nil)
	}
	clear(s.c.followers)
}

// fanOut copies raw output to those attached. One that cannot keep up is cut off: the log
// and the container go first.
func (c *container) fanOut(kind byte, raw []byte) {
	if len(c.followers) == 0 {
		return
	}
	frame := appendFrame(nil, kind, raw)
	for f := range c.followers {
		if !f.offer(frame) {
			f.finish(errSlow)
			delete(c.followers, f)
		}
	}
}

// report logs an error of a container's log once for each change.
func (w *Writer) report(c *container, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == c.failing {
		return
	}
	if c.failing = text; err != nil {
		w.log.Error("container log cannot be written", "container", c.id, "err", err)
	} else {
		w.log.Info("container log is written again", "container", c.id)
	}
}
