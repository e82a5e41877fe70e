package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// logFiles are the files of one attempt of a container, oldest first: the rotated ones, whose
// names sort by age, and then the one being written.
func logFiles(path string) ([]string, error) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	current := false
	for _, e := range entries {
		switch {
		case e.Name() == base:
			current = true
		case strings.HasPrefix(e.Name(), base+".") && !strings.HasSuffix(e.Name(), ".gz") && !strings.HasSuffix(e.Name(), ".tmp"):
			out = append(out, dir+e.Name())
		}
	}
	slices.Sort(out)
	if current {
		out = append(out, path)
	}
	if len(out) == 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return out, nil
}

// attempts are the numbers of a container's attempts that have a log, ascending.
func attempts(dir string) []int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // none was ever written
	}
	seen := map[int]bool{}
	for _, e := range entries {
		number, _, ok := strings.Cut(e.Name(), ".log")
		if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 {
			seen[n] = true
		}
	}
	var out []int
	for n := range seen {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// reader reads the entries of a log through its rotations.
type reader struct {
	path string   // of the file being written
	file *os.File // nil: at the end of what there is
	skip bool     // the rest of an overlong line is still to come

	buf   []byte
	start int // buf[start:end] is read and not yet taken
	end   int
}

// maxEntry is the longest entry taken; the log writer cuts lines at a quarter of it.
const maxEntry = 64 << 10

func newReader(path string) *reader { return &reader{path: path, buf: make([]byte, maxEntry)} }

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // it was only read
		r.file = nil
	}
}

// open begins at offset of the file.
func (r *reader) open(name string, offset int64) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	r.begin(f)
	return nil
}

// begin reads on in this file.
func (r *reader) begin(f *os.File) {
	r.close()
	r.file, r.start, r.end, r.skip = f, 0, 0, false
}

// next returns the next whole entry, valid until the next call; io.EOF where there is none yet.
func (r *reader) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.start:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : r.start+i+1]
			r.start += i + 1
			if r.skip {
				r.skip = false
				continue
			}
			return line, nil
		}
		if r.start > 0 {
			copy(r.buf, r.buf[r.start:r.end])
			r.end -= r.start
			r.start = 0
		}
		if r.end == len(r.buf) { // no entry is that long: not ours
			r.skip, r.end = true, 0
		}
		if r.file == nil {
			return nil, io.EOF
		}
		n, err := r.file.Read(r.buf[r.end:])
		r.end += n
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("read log: %w", err)
		}
	}
}

// advance goes on to the file after the one that was read to its end, if it has been rotated
// away. False: it is still the one being written.
func (r *reader) advance() (bool, error) {
	if r.file == nil {
		return false, nil
	}
	mine, err := r.file.Stat()
	if err != nil {
		return false, fmt.Errorf("stat log: %w", err)
	}
	if current, err := os.Stat(r.path); err == nil && os.SameFile(mine, current) {
		return false, nil
	}
	next, err := r.after(mine)
	if err != nil || next == "" {
		return false, err
	}
	// What was written between our last read and the rename comes first.
	if line, err := r.more(); err != nil || line {
		return line, err
	}
	f, err := os.Open(next)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // rotated again meanwhile: look again
	}
	if err != nil {
		return false, fmt.Errorf("open log: %w", err)
	}
	// The name of the file being written stands for another one after each rotation: what was opened must still be
	// what follows ours.
	if next, err = r.after(mine); err == nil && !sameFile(f, next) {
		_ = f.Close() // it was only read
		return true, nil
	}
	if err != nil {
		return false, errors.Join(err, f.Close())
	}
	r.begin(f)
	return true, nil
}

// after names the file that follows ours, as far as names go: "" where there is none yet.
func (r *reader) after(mine fs.FileInfo) (string, error) {
	files, err := logFiles(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // between the rename and the new file, or all removed with the pod
	}
	if err != nil {
		return "", fmt.Errorf("list logs: %w", err)
	}
	for i, name := range files {
		if info, err := os.Stat(name); err != nil || !os.SameFile(mine, info) {
			continue
		}
		if i+1 == len(files) {
			return "", nil
		}
		return files[i+1], nil
	}
	return files[0], nil // ours was pruned already: go on with the oldest that is left
}

// sameFile says whether the open file is the one that has this name now.
func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && os.SameFile(a, b)
}

// more says whether the file has grown since it was read to its end.
func (r *reader) more() (bool, error) {
	at, err := r.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	info, err := r.file.Stat()
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	return info.Size() > at, nil
}

// tailStart finds where the last n lines begin: an index into files and an offset. It reads
// backwards in pieces. A line that was cut into partial entries counts once.
func tailStart(files []string, n int64) (index int, offset int64, err error) {
	if n <= 0 {
		last := len(files) - 1
		info, err := os.Stat(files[last])
		if err != nil {
			return 0, 0, fmt.Errorf("stat log: %w", err)
		}
		return last, info.Size(), nil
	}
	left := n
	for i := len(files) - 1; i >= 0; i-- {
		at, found, err := tailOf(files[i], &left, i == len(files)-1)
		if err != nil {
			return 0, 0, err
		}
		if found {
			return i, at, nil
		}
	}
	return 0, 0, nil
}

// tailOf scans one file backwards. left is how many line ends are still to be found; the end
// before the first wanted line is one more, and newest says that nothing follows this file.
func tailOf(name string, left *int64, newest bool) (offset int64, found bool, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, false, fmt.Errorf("open log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("stat log: %w", err)
	}
	back := &backward{f: f, at: info.Size()}
	first := newest
	for {
		line, at, err := back.line()
		if errors.Is(err, io.EOF) {
			return 0, false, nil
		}
		if err != nil {
			return 0, false, fmt.Errorf("read log: %w", err)
		}
		entry, perr := parseLine(line)
		whole := perr == nil && !entry.partial
		// A line whose last entry has not been written yet counts like a whole one.
		if whole || first && perr == nil {
			if *left == 0 {
				return at + int64(len(line)), true, nil
			}
			*left--
		}
		first = first && perr != nil
	}
}

// backward reads a file's lines from its end.
type backward struct {
	f    *os.File
	at   int64  // buf begins here in the file
	buf  []byte // not yet returned, from at on
	done bool   // the unfinished line at the end has been dropped
}

const backwardPiece = 16 << 10

// line returns the last line not yet returned, with its newline, and where it begins. An
// unfinished line at the file's end is left out.
func (b *backward) line() ([]byte, int64, error) {
	for {
		end := len(b.buf)
		if !b.done {
			if i := bytes.LastIndexByte(b.buf, '\n'); i >= 0 {
				b.buf, b.done = b.buf[:i+1], true
				continue
			}
		} else if end > 0 {
			if i := bytes.LastIndexByte(b.buf[:end-1], '\n'); i >= 0 {
				line := b.buf[i+1:]
				b.buf = b.buf[:i+1]
				return line, b.at + int64(i) + 1, nil
			}
		}
		if b.at == 0 {
			if !b.done || len(b.buf) == 0 {
				return nil, 0, io.EOF
			}
			line := b.buf
			b.buf = nil
			return line, 0, nil
		}
		if len(b.buf) > maxEntry {
			b.buf = b.buf[:0] // no entry is that long; what comes before it may be ours
			b.done = false
		}
		n := min(b.at, backwardPiece)
		piece := make([]byte, n, int(n)+len(b.buf))
		if _, err := b.f.ReadAt(piece, b.at-n); err != nil {
			return nil, 0, err
		}
		b.at -= n
		b.buf = append(piece, b.buf...)
	}
}
