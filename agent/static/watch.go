package static

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watch says when something in a folder changed (inotify(7)). Where the folder cannot be watched,
// because it is not there or its file system has no inotify, Run's slow look is left.
type watch struct {
	dir    string
	file   *os.File
	wg     sync.WaitGroup
	inode  fs.FileInfo   // of the folder that is watched
	signal chan struct{} // one slot: more would say the same
	broken bool          // said once
}

func newWatch(dir string) *watch { return &watch{dir: dir, signal: make(chan struct{}, 1)} }

const interesting = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CREATE |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// changes receives when the folder may have changed. It begins watching where that was not possible before.
func (w *watch) changes(log *slog.Logger) <-chan struct{} {
	if w.file != nil {
		if here, err := w.same(); err == nil && here {
			return w.signal
		}
		w.close() // the folder was replaced or is gone
	}
	if err := w.begin(); err != nil && !errors.Is(err, fs.ErrNotExist) && !w.broken {
		w.broken = true
		log.Warn("folder of pods cannot be watched, looking from time to time", "dir", w.dir, "every", lookEvery, "err", err)
	}
	return w.signal
}

func (w *watch) begin() error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	if _, err := unix.InotifyAddWatch(fd, w.dir, interesting); err != nil {
		return errors.Join(os.NewSyscallError("inotify_add_watch", err), unix.Close(fd))
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	file := w.file
	w.wg.Go(func() {
		buf := make([]byte, 4096)
		for {
			if _, err := file.Read(buf); err != nil {
				return // closed
			}
			select {
			case w.signal <- struct{}{}:
			default:
			}
		}
	})
	if err := w.remember(); err != nil {
		w.close()
		return err
	}
	return nil
}

// remember notes which folder is watched; same says whether the path still leads there.
func (w *watch) remember() (err error) {
	w.inode, err = os.Stat(w.dir)
	return err
}

func (w *watch) same() (bool, error) {
	now, err := os.Stat(w.dir)
	return err == nil && os.SameFile(now, w.inode), err
}

// close ends the watch and waits for its reader.
func (w *watch) close() {
	if w.file == nil {
		return
	}
	_ = w.file.Close() // nothing was written
	w.wg.Wait()
	w.file = nil
}
