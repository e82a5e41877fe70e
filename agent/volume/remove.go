package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// Remove takes everything of the pod off the node: first the mounts, the deepest first, then the
// files. It is idempotent. The containers must be gone. hostPath content stays, because it was
// never below the pod's folder; a mount that could not be undone stops the deletion.
func (v *Volumes) Remove(ctx context.Context, uid types.UID) error {
	unlock, err := v.lock(uid)
	if err != nil {
		return err
	}
	defer unlock()
	dir := v.PodDir(uid)
	if err := unmountBelow(dir); err != nil {
		return fmt.Errorf("remove volumes of pod %s: %w", uid, err)
	}
	if err := v.releaseImages(ctx, uid); err != nil {
		return fmt.Errorf("remove volumes of pod %s: %w", uid, err)
	}
	if err := removeTree(v.root, filepath.Join("pods", string(uid))); err != nil {
		return fmt.Errorf("remove volumes of pod %s: %w", uid, err)
	}
	return nil
}

// removeTree deletes base/name. Unlike os.RemoveAll it refuses to enter a mount point, bind mounts
// included: a subPath of a hostPath leads to the machine's own files, and a list of mounts read
// while another changed may miss one.
func removeTree(base, name string) error {
	parent, err := os.Open(filepath.Join(base, filepath.Dir(name)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = removeAt(int(parent.Fd()), filepath.Base(name), filepath.Join(base, name))
	return errors.Join(err, parent.Close())
}

func removeAt(dirfd int, name, full string) error {
	err := unix.Unlinkat(dirfd, name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return &os.PathError{Op: "unlink", Path: full, Err: err}
	}
	fd, err := openBeneath(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, unix.RESOLVE_NO_XDEV)
	if errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("%s is still a mount point", full)
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: full, Err: err}
	}
	d := os.NewFile(uintptr(fd), full)
	names, err := d.Readdirnames(-1)
	errs := []error{err}
	for _, n := range names {
		errs = append(errs, removeAt(fd, n, filepath.Join(full, n)))
	}
	if err := errors.Join(append(errs, d.Close())...); err != nil {
		return err
	}
	if err := unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: full, Err: err}
	}
	return nil
}

// openBeneath opens a path that never leads above dirfd, whatever links are on the way. More
// resolve flags may narrow it.
func openBeneath(dirfd int, name string, flags int, resolve uint64) (int, error) {
	how := &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for {
		fd, err := unix.Openat2(dirfd, name, how)
		switch {
		// The kernel asks to try again when a rename raced with the resolution of "..".
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSYS):
			return -1, errors.New("the kernel has no openat2 (Linux 5.6 or later is needed)")
		}
		return fd, err
	}
}
