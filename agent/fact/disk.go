package fact

import (
	"fmt"

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
