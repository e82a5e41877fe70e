package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// The files of a pod with users of its own are seen through id-mapped mounts: id 0 on the disk is the pod's root, a
// foreign id to everybody else. They are made here and not by the OCI runtime, of which only the newest can.
//
//	<runDir>/pods/<uid>/idmap/<container>/<n>   one mount each, of a volume or of the node's own files
//	<runDir>/pods/<uid>/layers/<container>/<n>  the image's layers, while the container's root is being mounted

// mapIDs mounts source at target, a file or folder, with the ids of the pod whose user namespace this is.
func mapIDs(source, target, userNamespace string) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o711); err != nil {
		return err
	}
	if st.IsDir() {
		err = os.Mkdir(target, 0o711)
	} else {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	users, err := os.Open(userNamespace)
	if err != nil {
		return err
	}
	defer func() { _ = users.Close() }() // opened for its descriptor only
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	tree := os.NewFile(uintptr(fd), source)
	defer func() { _ = tree.Close() }() // what is attached stays
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users.Fd())})
	if errors.Is(err, unix.EINVAL) {
		return fault.As(fault.ErrInvalid, fmt.Errorf("%s is on a file system that cannot map ids, which hostUsers: false needs: %w", source, err))
	}
	if err != nil {
		return &os.PathError{Op: "mount_setattr", Path: source, Err: err}
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: target, Err: err}
	}
	return nil
}

// mapMounts gives the container's mounts with the pod's ids.
func (r *Runtime) mapMounts(id string, c *pod.ContainerSpec) error {
	dir, users := filepath.Join(r.podDir(c.PodUID), "idmap", id), r.userNamespace(c.PodUID)
	if err := unmountTree(dir); err != nil { // of a creation that was cut short
		return err
	}
	mounts := slices.Clone(c.Mounts)
	for i := range mounts {
		if mounts[i].OfImage { // an overlay, which the kernel cannot map as a whole
			continue
		}
		target := filepath.Join(dir, strconv.Itoa(i))
		if err := mapIDs(mounts[i].HostPath, target, users); err != nil {
			return fmt.Errorf("mount %s: %w", mounts[i].ContainerPath, err)
		}
		mounts[i].HostPath = target
	}
	c.Mounts = mounts
	if c.TerminationMessageHostPath != "" {
		target := filepath.Join(dir, "termination-log")
		if err := mapIDs(c.TerminationMessageHostPath, target, users); err != nil {
			return fmt.Errorf("mount %s: %w", c.TerminationMessagePath, err)
		}
		c.TerminationMessageHostPath = target
	}
	return nil
}

// unmapMounts undoes mapMounts; a container that is not known leaves it to the removal of the pod's sandbox.
func (r *Runtime) unmapMounts(id string) error {
	r.mu.Lock()
	uid := r.owners[id]
	r.mu.Unlock()
	if uid == "" {
		return nil
	}
	return unmountTree(filepath.Join(r.podDir(uid), "idmap", id))
}

func (r *Runtime) userNamespace(uid types.UID) string {
	return filepath.Join(r.podDir(uid), "ns", pinUser.file)
}

// mapRoot gives the snapshot's mounts with the layers' ids mapped. done detaches what the mounting needed.
func (r *Runtime) mapRoot(uid types.UID, id string, base uint32, mounts []mount.Mount) (mapped []mount.Mount, done func() error, err error) {
	if len(mounts) != 1 || mounts[0].Type != "overlay" {
		return nil, nil, fault.Invalid("hostUsers: false needs the snapshotter overlayfs on this node (an image without layers cannot run so either)")
	}
	dir := filepath.Join(r.podDir(uid), "layers", id)
	done = func() error { return unmountTree(dir) }
	if err := done(); err != nil {
		return nil, nil, err
	}
	m := mounts[0]
	m.Options = slices.Clone(m.Options)
	for i, option := range m.Options {
		if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
			// The container's own layer is written through no mapping: its root belongs to the pod's root.
			if err := os.Lchown(upper, int(base), int(base)); err != nil {
				return nil, nil, err
			}
		}
		list, ok := strings.CutPrefix(option, "lowerdir=")
		if !ok {
			continue
		}
		var layers []string
		for n, layer := range strings.Split(list, ":") {
			target := filepath.Join(dir, strconv.Itoa(n))
			if err := mapIDs(layer, target, r.userNamespace(uid)); err != nil {
				return nil, nil, errors.Join(fmt.Errorf("map ids of the image's layers: %w", err), done())
			}
			layers = append(layers, target)
		}
		m.Options[i] = "lowerdir=" + strings.Join(layers, ":")
	}
	return []mount.Mount{m}, done, nil
}

// unmountTree detaches all that is mounted below dir and removes it. Nothing is deleted through a mount: a folder
// that is still one is not empty, and Remove refuses it.
func unmountTree(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	var errs []error
	for _, m := range slices.Backward(infos) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var places []string
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		places = append(places, path)
		return err
	})
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(places) {
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	return nil
}
