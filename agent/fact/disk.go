package fact

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Disk is one file system: bytes and inodes. A file system without inodes of its own (btrfs) has Inodes 0.
type Disk struct {
	Total, Available   int64
	Inodes, InodesFree int64
}

// ReadDisk is about the file system that holds path.
func ReadDisk(path string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Disk{}, fmt.Errorf("file system of %s: %w", path, err)
	}
	// Frsize is the unit of Blocks; some FUSE file systems leave it 0.
	unit := int64(st.Frsize) //nolint:unconvert // 32 bits wide on some architectures
	if unit == 0 {
		unit = int64(st.Bsize) //nolint:unconvert // likewise
	}
	return Disk{
		Total: int64(st.Blocks) * unit, Available: int64(st.Bavail) * unit,
		Inodes: int64(st.Files), InodesFree: int64(st.Ffree),
	}, nil
}

// DirSize adds up a folder as du does: blocks in bytes, each inode once, on one file system. What goes away meanwhile is not
// counted; ok is false for a folder that is not there.
func DirSize(dir string) (bytes, inodes int64, ok bool) {
	var top syscall.Stat_t
	if err := syscall.Lstat(dir, &top); err != nil {
		return 0, 0, false
	}
	seen := map[uint64]struct{}{} // inodes with several names
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && d.IsDir() && path != dir {
				return fs.SkipDir
			}
			return nil // gone since it was listed, or not ours to read
		}
		var st syscall.Stat_t
		if syscall.Lstat(path, &st) != nil {
			return nil //nolint:nilerr // likewise
		}
		if st.Dev != top.Dev {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !d.IsDir() {
			if _, again := seen[st.Ino]; again {
				return nil
			}
			seen[st.Ino] = struct{}{}
		}
		bytes += st.Blocks * 512
		inodes++
		return nil
	})
	return bytes, inodes, err == nil
}
