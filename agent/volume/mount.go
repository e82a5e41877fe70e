package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// isMount says whether something is mounted at dir itself. A bind mount within one file system
// is not seen, and none of ours are made on folders that this is asked about.
func isMount(dir string) (bool, error) {
	var at, above unix.Stat_t
	if err := unix.Lstat(dir, &at); err != nil {
		return false, &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if err := unix.Lstat(filepath.Dir(dir), &above); err != nil {
		return false, &os.PathError{Op: "lstat", Path: filepath.Dir(dir), Err: err}
	}
	return at.Dev != above.Dev, nil
}

// ensureTmpfs mounts a tmpfs at dir unless one is there. size 0 leaves the kernel's own limit, half of memory.
func ensureTmpfs(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	there, err := isMount(dir)
	if err != nil || there {
		return err
	}
	options := "mode=1777"
	if size > 0 {
		options += fmt.Sprintf(",size=%d", size)
	}
	// What must not reach a disk must not reach swap either; kernels before 6.4 do not know the option.
	err = unix.Mount("tmpfs", dir, "tmpfs", 0, options+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	}
	if err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	return nil
}

// mountsBelow lists mount points below dir, the deepest first. A point that is mounted twice is listed twice.
func mountsBelow(dir string) ([]string, error) {
	prefix := dir + string(filepath.Separator)
	infos, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, prefix), false
	})
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	// mountinfo is in the order of mounting: the last mounted goes first.
	points := make([]string, 0, len(infos))
	for _, m := range slices.Backward(infos) {
		points = append(points, m.Mountpoint)
	}
	slices.SortStableFunc(points, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	return points, nil
}

// unmountBelow unmounts everything below dir. What is busy is an error: taking it away from
// under its user would hide, not free it.
func unmountBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range points {
		err := unix.Unmount(p, unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}
