package logwriter

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rotatedFormat makes the names of rotated files sort by age.
const rotatedFormat = "20060102-150405.000000000"

// logFile is one container's log with its rotated predecessors:
//
//	0.log                              the current one
//	0.log.20060102-150405.000000000    rotated, oldest first
type logFile struct {
	path     string
	maxSize  int64 // bytes of one file; 0: never rotate
	maxFiles int   // the current one included; at least 2 where maxSize is set

	f    *os.File
	size int64
	lost int64 // bytes that could not be written since the last good write
}

// open makes the directories and the file; open again is a no-op. A file that ends in the
// middle of a line, as after a power cut, is given its newline.
func (l *logFile) open() error {
	if l.f != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	l.f, l.size = f, size
	if size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err == nil && last[0] != '\n' {
			return l.write([]byte{'\n'}, time.Time{})
		}
	}
	return nil
}

// write appends entries and rotates where that made the file too long. What cannot be
// written is counted and dropped: a full disk must not block a container. The first write
// that works again says how much is missing.
func (l *logFile) write(p []byte, now time.Time) error {
	if len(p) == 0 {
		return nil
	}
	if err := l.open(); err != nil {
		l.lost += int64(len(p))
		return err
	}
	if l.lost > 0 && !now.IsZero() {
		note := encoder{stream: "stderr"}
		text := fmt.Sprintf("coracle: %d bytes of log were lost here because they could not be written\n", l.lost)
		if err := l.append(note.encode(nil, []byte(text), now)); err != nil {
			l.lost += int64(len(p))
			return err
		}
		l.lost = 0
	}
	if err := l.append(p); err != nil {
		return err
	}
	if l.maxSize > 0 && l.size >= l.maxSize {
		return l.rotate(now)
	}
	return nil
}

// append writes entries, whole ones only: what a full disk has cut off is taken back, and counted.
func (l *logFile) append(p []byte) error {
	n, err := l.f.Write(p)
	if err == nil {
		l.size += int64(n)
		return nil
	}
	whole := bytes.LastIndexByte(p[:n], '\n') + 1
	l.size += int64(whole)
	l.lost += int64(len(p) - whole)
	if whole < n {
		err = errors.Join(err, l.f.Truncate(l.size))
	}
	return fmt.Errorf("write log: %w", err)
}

func (l *logFile) rotate(now time.Time) error {
	if err := l.f.Close(); err != nil {
		return fmt.Errorf("rotate log: %w", err)
	}
	l.f = nil
	if err := os.Rename(l.path, l.path+"."+now.UTC().Format(rotatedFormat)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log: %w", err)
	}
	if err := l.prune(); err != nil {
		return err
	}
	return l.open()
}

// prune removes the oldest rotated files past maxFiles.
func (l *logFile) prune() error {
	dir, base := filepath.Split(l.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("prune rotated logs: %w", err)
	}
	var rotated []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), base+".") {
			rotated = append(rotated, e.Name())
		}
	}
	slices.Sort(rotated)
	for len(rotated) > max(l.maxFiles-1, 0) {
		if err := os.Remove(filepath.Join(dir, rotated[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("prune rotated logs: %w", err)
		}
		rotated = rotated[1:]
	}
	return nil
}

func (l *logFile) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}
