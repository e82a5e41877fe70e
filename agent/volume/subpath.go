package volume

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// SubPath names one subPath mount of a container.
type SubPath struct {
	UID        types.UID
	Volume     string
	VolumePath string // as Ensure gave it
	Container  string
	Index      int    // of the mount in the container's list
	Path       string // subPath, or subPathExpr after expansion; relative
	// Foreign says that the volume's content is not the pod's to add to: the node writes it. What is missing in
	// any other volume is made there, a folder, as Kubernetes does; in this one it is shown as an empty folder.
	Foreign bool
}

// EnsureSubPath gives a path on the host that stays what it is now. A container that can write
// the volume could swap the subPath for a link to the machine's files between the look
// and the mount; therefore the file is opened without ever leaving the volume, and what was
// opened, not its name, is bind-mounted to a place that no container sees.
func (v *Volumes) EnsureSubPath(s SubPath) (string, error) {
	unlock, err := v.lock(s.UID)
	if err != nil {
		return "", err
	}
	defer unlock()
	clean, err := cleanSubPath(s.Path)
	if err != nil {
		return "", err
	}
	target := filepath.Join(v.PodDir(s.UID), "volume-subpaths", s.Volume, s.Container, strconv.Itoa(s.Index))
	fd, err := openSubPath(s.VolumePath, clean, !s.Foreign)
	if s.Foreign && errors.Is(err, unix.ENOENT) {
		return target, emptyFolder(target)
	}
	if err != nil {
		return "", fmt.Errorf("subPath %q of volume %q: %w", s.Path, s.Volume, err)
	}
	source := os.NewFile(uintptr(fd), clean)
	err = bind(source, target)
	if err := errors.Join(err, source.Close()); err != nil {
		return "", fmt.Errorf("subPath %q of volume %q: %w", s.Path, s.Volume, err)
	}
	return target, nil
}

func cleanSubPath(p string) (string, error) {
	if path.IsAbs(p) {
		return "", fmt.Errorf("subPath %q must not be an absolute path", p)
	}
	for _, part := range strings.Split(p, "/") {
		if part == ".." {
			return "", fmt.Errorf("subPath %q must not contain '..'", p)
		}
	}
	return path.Clean(p), nil
}

// openSubPath opens what the subPath leads to, itself a file or a folder.
func openSubPath(volume, sub string, create bool) (int, error) {
	root, err := unix.Open(volume, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: volume, Err: err}
	}
	defer func() { _ = unix.Close(root) }() // opened for its path only
	if sub == "." {
		return unix.Dup(root)
	}
	fd, err := openBeneath(root, sub, unix.O_PATH, 0)
	if errors.Is(err, unix.ENOENT) && create {
		err = makeBeneath(root, sub)
		if errors.Is(err, unix.EROFS) {
			return -1, errors.New("is not there, and the volume is read-only")
		}
		if err != nil {
			return -1, err
		}
		fd, err = openBeneath(root, sub, unix.O_PATH, 0)
	}
	switch {
	case errors.Is(err, unix.EXDEV):
		return -1, errors.New("leads out of the volume")
	case errors.Is(err, unix.ELOOP):
		return -1, errors.New("leads through too many links, or through one that may not be followed")
	case err != nil:
		return -1, err
	}
	return fd, nil
}

// makeBeneath makes the missing folders of sub, with the permissions of the volume's root so that
// the users who may write there may write here.
func makeBeneath(root int, sub string) error {
	var st unix.Stat_t
	if err := unix.Fstat(root, &st); err != nil {
		return err
	}
	perm := st.Mode & 0o777
	at := ""
	for _, part := range strings.Split(sub, "/") {
		parent := root
		if at != "" {
			var err error
			if parent, err = openBeneath(root, at, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
				return err
			}
		}
		err := unix.Mkdirat(parent, part, perm)
		if err == nil {
			err = setMode(parent, part, perm, st.Mode, int(st.Gid))
		}
		if parent != root {
			_ = unix.Close(parent) // opened for its path only
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return &os.PathError{Op: "mkdir", Path: path.Join(at, part), Err: err}
		}
		at = path.Join(at, part)
	}
	return nil
}

// setMode undoes the umask on a folder that was just made, and keeps a volume's group with it.
func setMode(parent int, name string, perm, rootMode uint32, gid int) error {
	fd, err := openBeneath(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if rootMode&unix.S_ISGID != 0 {
		perm |= unix.S_ISGID
		err = unix.Fchown(fd, -1, gid)
	}
	return errors.Join(err, unix.Fchmod(fd, perm), unix.Close(fd))
}

// emptyFolder puts an empty folder at target in place of what an earlier call mounted there.
func emptyFolder(target string) error {
	if _, err := os.Lstat(target); err == nil {
		if err := unmountAll(target); err != nil {
			return err
		}
		if err := os.Remove(target); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	return os.Mkdir(target, 0o755)
}

// bind mounts what source has open at target, unless exactly that is mounted there.
func bind(source *os.File, target string) error {
	var want, have unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &want); err != nil {
		return err
	}
	if err := unix.Lstat(target, &have); err == nil {
		if have.Dev == want.Dev && have.Ino == want.Ino {
			return nil
		}
		// Another generation of a ConfigMap, or what a call that was cut off left.
		if err := unmountAll(target); err != nil {
			return err
		}
		if err := os.Remove(target); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return err
	}
	if want.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.Mkdir(target, 0o750); err != nil {
			return err
		}
	} else if err := os.WriteFile(target, nil, 0o640); err != nil {
		return err
	}
	// Recursive, so that a CSI or tmpfs mount inside the volume is seen.
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", source.Fd()), target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "bind", Path: target, Err: err}
	}
	return nil
}

// unmountAll undoes every mount at target; a file that is no mount point is left alone.
func unmountAll(target string) error {
	for {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: target, Err: err}
		}
	}
}
