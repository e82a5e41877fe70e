package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxRead bounds what is read of a file that a pod has written.
const maxRead = 1 << 20

// ReadFile reads a file of a volume without ever leaving it, whatever links the pod has made on the way, and
// without waiting for a pipe. fs.ErrNotExist: it is not there.
func (v *Volumes) ReadFile(volumePath, path string) ([]byte, error) {
	clean, err := cleanSubPath(path)
	if err != nil {
		return nil, err
	}
	root, err := unix.Open(volumePath, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: volumePath, Err: err}
	}
	defer func() { _ = unix.Close(root) }() // opened for its path only
	fd, err := openBeneath(root, clean, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s leads out of the volume", path)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // nothing is written through it
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRead {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, maxRead)
	}
	return io.ReadAll(io.LimitReader(f, maxRead))
}
