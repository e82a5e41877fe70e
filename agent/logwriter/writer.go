// Package logwriter writes the output of a node's containers in the CRI log format. It is a
// process of its own (coracle-agent log-writer) beside the agent, so that no container blocks
// on a full pipe, and no line is lost, while the agent is down or being replaced.
//
// It owns the log files, their rotation and the FIFOs' reading ends:
//
//	<ioDir>/<id>/log.json              the registration; its directory is renamed into place whole
//	<ioDir>/<id>/{stdin,stdout,stderr} FIFOs; the container's shim holds both ends of the outputs
//	<socket>                           follow (attach) and drain, for the agent
//
// It does not know containerd or pods. Invariants: the state of the world is the directory,
// so a new log writer goes on where a killed one stopped; what it had not read waits in the
// pipes. It sleeps in epoll, writes nothing and logs nothing while the containers are silent.
package logwriter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what the log writer needs. IODir, Socket and Log are required.
type Config struct {
	IODir    string // where containers are registered
	Socket   string // unix socket for the agent
	MaxSize  int64  // bytes after which a log is rotated; default 10 MiB
	MaxFiles int    // files kept of each log, the current one included; default 5
	Log      *slog.Logger
}

// Defaults as the kubelet's containerLogMaxSize and containerLogMaxFiles.
const (
	DefaultMaxSize  = 10 << 20
	DefaultMaxFiles = 5
)

// Writer is the log writer of one node.
type Writer struct {
	cfg Config
	log *slog.Logger

	// mu guards all below; the loop holds it while it works, never while it sleeps.
	mu         sync.Mutex
	containers map[string]*container
	byFD       map[int]*stream
	epoll      int
	buf, out   []byte // one of each for all streams
}

// New checks the configuration and makes the directories.
func New(cfg Config) (*Writer, error) {
	if cfg.IODir == "" || cfg.Socket == "" || cfg.Log == nil {
		return nil, errors.New("log writer: IODir, Socket and Log are required")
	}
	if cfg.MaxSize <= 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	if cfg.MaxFiles <= 1 {
		cfg.MaxFiles = DefaultMaxFiles
	}
	for _, dir := range []string{cfg.IODir, filepath.Dir(cfg.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("log writer: %w", err)
		}
	}
	return &Writer{
		cfg: cfg, log: cfg.Log,
		containers: map[string]*container{},
		byFD:       map[int]*stream{},
		buf:        make([]byte, 32*1024),
	}, nil
}

// Run serves until ctx ends. It returns nil then, having written out unfinished lines; any
// other return is an error that a restart may cure.
func (w *Writer) Run(ctx context.Context) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("log writer: epoll: %w", err)
	}
	defer closeFD(epoll)
	w.epoll = epoll
	watch, err := w.watchDir()
	if err != nil {
		return err
	}
	defer closeFD(watch)
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("log writer: eventfd: %w", err)
	}
	defer closeFD(stop)
	if err := w.poll(stop); err != nil {
		return err
	}
	listener, err := w.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	wake := context.AfterFunc(ctx, func() { _, _ = unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer wake()

	w.mu.Lock()
	w.rescan()
	w.mu.Unlock()

	var serving sync.WaitGroup
	serving.Go(func() { w.serve(ctx, listener) })
	err = w.loop(watch, stop)
	err = errors.Join(err, closeListener(listener))
	w.release()
	serving.Wait()
	return err
}

// closeFD lets go of a descriptor that holds no data: what closing it says cannot be acted on.
func closeFD(fd int) { _ = unix.Close(fd) }

func closeListener(l net.Listener) error {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("log writer: %w", err)
	}
	return nil
}

func (w *Writer) watchDir() (int, error) {
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("log writer: inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(watch, w.cfg.IODir, unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_ONLYDIR); err != nil {
		return -1, errors.Join(fmt.Errorf("log writer: watch %s: %w", w.cfg.IODir, err), unix.Close(watch))
	}
	if err := w.poll(watch); err != nil {
		return -1, errors.Join(err, unix.Close(watch))
	}
	return watch, nil
}

func (w *Writer) poll(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("log writer: watch descriptor: %w", err)
	}
	return nil
}

// loop sleeps in epoll and moves output. Level-triggered: what one round leaves, the next finds.
func (w *Writer) loop(watch, stop int) error {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("log writer: epoll: %w", err)
		}
		w.mu.Lock()
		now := time.Now()
		stopped, changed := false, false
		for _, event := range events[:n] {
			switch fd := int(event.Fd); fd {
			case stop:
				stopped = true
			case watch:
				changed = true
			default:
				if s := w.byFD[fd]; s != nil {
					w.ready(s, event.Events, now)
				}
			}
		}
		if changed {
			discard(watch)
			w.rescan()
		}
		w.mu.Unlock()
		if stopped {
			return nil
		}
	}
}

// ready handles one event. A hang-up is the end of the last writer, but what it wrote before
// may still be in the pipe.
func (w *Writer) ready(s *stream, events uint32, now time.Time) {
	empty, _ := w.pump(s, now)
	if empty && events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		if _, noWriter := w.pump(s, now); noWriter {
			w.end(s, 'F', now)
		}
	}
}

// discard empties the inotify queue: an event only says "look again".
func discard(watch int) {
	buf := make([]byte, 4096)
	for {
		if n, err := unix.Read(watch, buf); n <= 0 || err != nil {
			return
		}
	}
}

// rescan makes the open containers those that are registered. The caller holds mu.
func (w *Writer) rescan() {
	ids, err := Registered(w.cfg.IODir)
	if err != nil {
		w.log.Error("log registrations cannot be listed", "err", err)
		return
	}
	present := make(map[string]bool, len(ids))
	for _, id := range ids {
		present[id] = true
		if _, ok := w.containers[id]; !ok {
			w.add(id)
		}
	}
	now := time.Now()
	for id, c := range w.containers {
		if present[id] {
			continue
		}
		for _, s := range c.streams {
			for !s.eof {
				if empty, _ := w.pump(s, now); empty {
					w.end(s, 'F', now)
				}
			}
		}
		delete(w.containers, id)
	}
}

func (w *Writer) add(id string) {
	r, err := Read(w.cfg.IODir, id)
	if err != nil {
		w.log.Error("log registration is left out", "container", id, "err", err)
		return
	}
	c := &container{
		id:        id,
		file:      logFile{path: r.LogPath, maxSize: w.cfg.MaxSize, maxFiles: w.cfg.MaxFiles},
		followers: map[*follower]struct{}{},
		drained:   make(chan struct{}),
	}
	w.containers[id] = c
	paths := PathsOf(w.cfg.IODir, id, r)
	w.addStream(c, "stdout", paths.Stdout, frameStdout)
	if paths.Stderr != "" {
		w.addStream(c, "stderr", paths.Stderr, frameStderr)
	}
	w.report(c, c.file.open()) // an empty log is there from the start, as kubectl logs expects
}

func (w *Writer) addStream(c *container, name, path string, kind byte) {
	s, err := openStream(c, name, path, kind)
	if err != nil {
		w.log.Error("container output cannot be read", "container", c.id, "err", err)
		return
	}
	if err := w.poll(s.fd); err != nil {
		w.log.Error("container output cannot be read", "container", c.id, "err", errors.Join(err, unix.Close(s.fd)))
		return
	}
	c.streams = append(c.streams, s)
	w.byFD[s.fd] = s
}

// release writes out unfinished lines as parts and lets go of everything.
func (w *Writer) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, c := range w.containers {
		for _, s := range c.streams {
			w.end(s, 'P', now)
		}
		for f := range c.followers {
			f.finish(net.ErrClosed)
		}
	}
	clear(w.containers)
}
