package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// reserved is what the file takes on the disk from the start: room for the assignments of a full node. On a disk that has
// filled up the node can then still be told what to do, and says why it cannot.
const reserved = 4 << 20

// reserve lays claim to the file's blocks. Nothing is written where it has them already.
func reserve(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() >= reserved {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, reserved); err != nil {
		return fmt.Errorf("reserve %d bytes for %s: %w", reserved, path, err)
	}
	return nil
}
