package stats

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"coracle/agent/fact"
)

// sizeFor is how long a folder that was walked is not walked again; a kubelet's volumeStatsAggPeriod.
const sizeFor = time.Minute

// size is what a folder takes.
type size struct{ bytes, inodes uint64 }

// sizes remembers what walks have found. The zero value is ready for use.
type sizes struct {
	mu    sync.Mutex
	known map[string]knownSize
}

type knownSize struct {
	size
	at time.Time
}

// of is the size of what measure measures, not older than sizeFor.
func (s *sizes) of(key string, now time.Time, measure func() (size, bool)) (size, bool) {
	s.mu.Lock()
	for k, old := range s.known {
		if now.Sub(old.at) > sizeFor {
			delete(s.known, k)
		}
	}
	have, ok := s.known[key]
	s.mu.Unlock()
	if ok {
		return have.size, true
	}
	// Not locked: another may measure the same at the same time, which costs a walk.
	got, ok := measure()
	if !ok {
		return size{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]knownSize{}
	}
	s.known[key] = knownSize{got, now}
	return got, true
}

// walk adds up a folder with all below.
func walk(dir string) (size, bool) {
	bytes, inodes, ok := fact.DirSize(dir)
	return size{uint64(bytes), uint64(inodes)}, ok
}

// files adds up the regular files directly in a folder.
func files(dir string) (size, bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return size{}, false
	}
	out := size{inodes: 1}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		out.inodes++
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			out.bytes += uint64(st.Blocks) * 512
		}
	}
	return out, true
}

// onTmpfs says that what is in dir is memory, and no disk's business.
func onTmpfs(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && uint32(st.Type) == unix.TMPFS_MAGIC
}

// imageDir is on the file system of images.
func (s *Stats) imageDir() string {
	if s.c.ImageDir != "" {
		return s.c.ImageDir
	}
	const usual = "/var/lib/containerd"
	if _, err := os.Stat(usual); errors.Is(err, fs.ErrNotExist) {
		return s.c.RootDir
	}
	return usual
}

// disk is a file system; nil where it cannot be asked.
func disk(dir string) *fact.Disk {
	d, err := fact.ReadDisk(dir)
	if err != nil {
		return nil
	}
	return &d
}
