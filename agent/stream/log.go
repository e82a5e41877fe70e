package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

const (
	// lookInterval is how often a follower looks whether the container still runs; new lines come by inotify.
	lookInterval = time.Second
	// lastLines is how long the log writer may take to write what a container said last.
	lastLines = 500 * time.Millisecond
)

// logs sends a container's log as its options say.
func (s *Server) logs(ctx context.Context, req *nodev1.Logs, stream Stream, out *sender) error {
	opts := &v1.PodLogOptions{}
	if err := opts.Unmarshal(req.GetOptions()); err != nil {
		return fault.As(fault.ErrInvalid, fmt.Errorf("read log options: %w", err))
	}
	p, err := s.pod(req.GetPodUid())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The user says nothing more; the end of the stream says that he has gone.
	go func() {
		defer cancel()
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	path, id, err := s.logPath(p, req.GetContainer(), opts.Previous)
	if err != nil {
		return err
	}
	// Said at once, as the first line may be long in coming.
	if err := out.send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT}); err != nil {
		return err
	}
	l := &logger{
		path: path, opts: opts, out: newLogWriter(out, opts),
		running: func() bool { return !opts.Previous && s.isRunning(p.UID, req.GetContainer(), id) },
	}
	err = l.run(ctx)
	if ctx.Err() != nil {
		return nil // nobody is left to tell
	}
	return err
}

// logPath finds the log of the attempt that is asked for, and its container's id. The
// errors are in the words that users of Kubernetes know.
func (s *Server) logPath(p *v1.Pod, name string, previous bool) (path, id string, err error) {
	dir := filepath.Join(s.c.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID), name)
	status, _, _ := s.c.Statuses.Last(p.UID)
	cs := containerStatus(&status, name)
	var last, chosen string
	var waiting *v1.ContainerStateWaiting
	if cs != nil {
		if t := cs.LastTerminationState.Terminated; t != nil {
			last = t.ContainerID
		}
		waiting = cs.State.Waiting
		chosen = cs.ContainerID
	}
	have := attempts(dir)
	switch {
	case previous && last == "":
		return "", "", fault.As(fault.ErrInvalid, fmt.Errorf("previous terminated container %q in pod %q not found", name, p.Name))
	case previous:
		chosen = last
	case cs == nil && len(have) == 0:
		return "", "", fault.As(fault.ErrInvalid, fmt.Errorf("container %q in pod %q is not available", name, p.Name))
	case waiting != nil && last != "":
		chosen = last
	case waiting != nil:
		return "", "", fault.As(fault.ErrInvalid, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, p.Name, whyWaiting(waiting.Reason)))
	}
	attempt, ok := attemptOf(chosen)
	if !ok && len(have) > 0 {
		attempt, ok = have[len(have)-1], true
	}
	if !ok {
		return "", "", fault.As(fault.ErrInvalid, fmt.Errorf("container %q in pod %q has no log", name, p.Name))
	}
	return filepath.Join(dir, strconv.Itoa(attempt)+".log"), chosen, nil
}

func whyWaiting(reason string) string {
	switch reason {
	case "ErrImagePull":
		return "image can't be pulled"
	case "ImagePullBackOff":
		return "trying and failing to pull image"
	}
	return reason
}

// attemptOf reads the attempt out of a container's id, which ends with it.
func attemptOf(id string) (int, bool) {
	i := strings.LastIndexByte(id, '-')
	if i < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(id[i+1:])
	return n, err == nil && n >= 0
}

// isRunning says whether that attempt of the container still runs, as far as the node last said.
func (s *Server) isRunning(uid types.UID, name, id string) bool {
	if _, ok := s.c.Pods.Pod(uid); !ok {
		return false
	}
	status, _, ok := s.c.Statuses.Last(uid)
	if !ok {
		return false
	}
	cs := containerStatus(&status, name)
	return cs != nil && cs.State.Running != nil && (id == "" || cs.ContainerID == id)
}

// logger reads one attempt's log and writes what is wanted of it.
type logger struct {
	path    string
	opts    *v1.PodLogOptions
	out     *logWriter
	running func() bool
}

func (l *logger) run(ctx context.Context) error {
	var wake <-chan fsnotify.Event
	if l.opts.Follow {
		// Watched before it is read, so that nothing falls between.
		watcher, err := fsnotify.NewWatcher()
		if err == nil {
			defer func() { _ = watcher.Close() }() // it was only read
			err = watcher.Add(filepath.Dir(l.path))
		}
		if err == nil {
			wake = watcher.Events // without inotify (its limit is reached) the interval has to do
		}
	}
	r := newReader(l.path)
	defer r.close()
	if err := l.begin(r); err != nil {
		return err
	}
	ended, quiet := false, false // at the last look the container had ended; since then nothing was written
	for {
		n, err := l.copyLines(r)
		if errors.Is(err, errLimit) {
			return l.out.flush()
		}
		if err != nil {
			return err
		}
		if !l.opts.Follow {
			return l.out.flush()
		}
		if err := l.out.flush(); err != nil {
			return err
		}
		if ended && quiet && n == 0 {
			return nil
		}
		wait := lookInterval
		if ended = !l.running(); ended {
			wait = lastLines
		}
		if quiet, err = l.wait(ctx, wake, wait); err != nil {
			return err
		}
		if r.file == nil {
			if err := l.begin(r); err != nil {
				return err
			}
		}
	}
}

// wait returns when something was written, or after d: then it was quiet.
func (l *logger) wait(ctx context.Context, wake <-chan fsnotify.Event, d time.Duration) (quiet bool, err error) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-t.C:
			return true, nil
		case e, ok := <-wake:
			if !ok {
				wake = nil
				continue
			}
			if strings.HasPrefix(e.Name, l.path) {
				return false, nil
			}
		}
	}
}

// begin opens the file that has the first line wanted. A log that does not exist yet is an empty one.
func (l *logger) begin(r *reader) error {
	files, err := logFiles(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	index, offset := 0, int64(0)
	if l.opts.TailLines != nil {
		if index, offset, err = tailStart(files, *l.opts.TailLines); err != nil {
			return err
		}
	}
	for since := l.out.since; !since.IsZero() && index < len(files)-1; index++ {
		// Lines of a file are not younger than its last change.
		info, err := os.Stat(files[index])
		if err != nil || !info.ModTime().Before(since) {
			break
		}
		offset = 0
	}
	return r.open(files[index], offset)
}

// copyLines writes what there is, through rotations, and returns how many entries it saw.
func (l *logger) copyLines(r *reader) (n int, err error) {
	for {
		raw, err := r.next()
		if err == nil {
			n++
			line, perr := parseLine(raw)
			if perr != nil {
				continue // an entry cut by a power loss
			}
			if err := l.out.write(line); err != nil {
				return n, err
			}
			continue
		}
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		more, err := r.advance()
		if err != nil || !more {
			return n, err
		}
	}
}

// errLimit says that limitBytes is reached.
var errLimit = errors.New("limit reached")

// logWriter turns entries into what the user sees.
type logWriter struct {
	to     io.Writer
	since  time.Time
	stamps bool
	stream string // "stdout", "stderr", or empty for both
	left   int64  // bytes that may still be written; negative: any

	buf     []byte
	partial map[string]bool // by stream: the line has begun
}

func newLogWriter(out *sender, opts *v1.PodLogOptions) *logWriter {
	w := &logWriter{to: out.to(nodev1.Frame_STDOUT), stamps: opts.Timestamps, left: -1, partial: map[string]bool{}}
	if opts.SinceTime != nil {
		w.since = opts.SinceTime.Time
	}
	if opts.SinceSeconds != nil {
		w.since = time.Now().Add(-time.Duration(*opts.SinceSeconds) * time.Second)
	}
	if opts.LimitBytes != nil {
		w.left = *opts.LimitBytes
	}
	if opts.Stream != nil {
		w.stream = map[string]string{v1.LogStreamStdout: "stdout", v1.LogStreamStderr: "stderr"}[*opts.Stream]
	}
	return w
}

func (w *logWriter) write(line logLine) error {
	stream := string(line.stream)
	if w.stream != "" && stream != w.stream {
		return nil
	}
	if !w.since.IsZero() && line.before(w.since) {
		return nil
	}
	begun := len(w.buf)
	if w.stamps && !w.partial[stream] {
		w.buf = append(append(w.buf, line.stamp...), ' ')
	}
	w.buf = append(w.buf, line.content...)
	if !line.partial {
		w.buf = append(w.buf, '\n')
	}
	w.partial[stream] = line.partial
	if w.left >= 0 {
		if added := int64(len(w.buf) - begun); added >= w.left {
			w.buf = w.buf[:begun+int(w.left)]
			w.left = 0
			return errLimit
		}
		w.left -= int64(len(w.buf) - begun)
	}
	if len(w.buf) >= frameSize {
		return w.flush()
	}
	return nil
}

func (w *logWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.to.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}
