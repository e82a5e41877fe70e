package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
)

// maxAccountFile bounds what is read of an image's passwd and group files.
const maxAccountFile = 1 << 20

// errNeedMount says that a file cannot be read from the layers alone.
var errNeedMount = errors.New("the layers alone do not tell")

// readAccounts reads passwd and group of a container's root, remembering them by image.
func (r *Runtime) readAccounts(ctx context.Context, imageID string, mounts []mount.Mount) (accounts, error) {
	r.mu.Lock()
	acc, ok := r.users[imageID]
	r.mu.Unlock()
	if ok {
		return acc, nil
	}
	passwd, group, err := accountFiles(ctx, mounts)
	if err != nil {
		return accounts{}, fmt.Errorf("read the image's accounts: %w", err)
	}
	acc = parseAccounts(passwd, group)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.users) >= 64 {
		clear(r.users)
	}
	r.users[imageID] = acc
	return acc, nil
}

// accountFiles reads from the overlay's layers without mounting it, which saves two system calls
// that cost as much as all the rest of Create; where links are in the way it mounts after all.
func accountFiles(ctx context.Context, mounts []mount.Mount) (passwd, group []byte, err error) {
	layers := layerDirs(mounts)
	passwd, err = fromLayers(layers, "passwd")
	if err == nil {
		group, err = fromLayers(layers, "group")
	}
	if !errors.Is(err, errNeedMount) {
		return passwd, group, err
	}
	err = mount.WithTempMount(ctx, mounts, func(root string) error {
		if passwd, err = inRoot(root, "etc/passwd"); err != nil {
			return err
		}
		group, err = inRoot(root, "etc/group")
		return err
	})
	return passwd, group, err
}

// layerDirs gives the directories of a snapshot's layers, uppermost first; nil where the
// snapshotter does not say.
func layerDirs(mounts []mount.Mount) []string {
	if len(mounts) != 1 {
		return nil
	}
	m := mounts[0]
	if m.Type == "bind" {
		return []string{m.Source}
	}
	if m.Type != "overlay" {
		return nil
	}
	var dirs []string
	for _, option := range m.Options {
		if list, ok := strings.CutPrefix(option, "lowerdir="); ok {
			dirs = append(dirs, strings.Split(list, ":")...)
		}
	}
	return dirs
}

// fromLayers reads etc/<name> as an overlay of the layers would show it; a file that none has is empty.
func fromLayers(layers []string, name string) ([]byte, error) {
	if len(layers) == 0 {
		return nil, errNeedMount
	}
	for _, layer := range layers {
		dir := filepath.Join(layer, "etc")
		st, err := os.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !st.IsDir() {
			return nil, errNeedMount // a link, or a whiteout
		}
		file := filepath.Join(dir, name)
		st, err = os.Lstat(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case st.Mode().IsRegular():
			return readBounded(os.Open(file))
		default:
			return nil, errNeedMount
		}
		if opaque(dir) {
			return nil, nil
		}
	}
	return nil, nil
}

// opaque is true for a directory that hides those of the layers below.
func opaque(dir string) bool {
	buf := make([]byte, 1)
	for _, attr := range []string{"trusted.overlay.opaque", "user.overlay.opaque"} {
		if n, err := unix.Lgetxattr(dir, attr, buf); err == nil && n == 1 && buf[0] == 'y' {
			return true
		}
	}
	return false
}

// inRoot reads a file below root, with every link resolved inside it.
func inRoot(root, name string) ([]byte, error) {
	in, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // nothing is written through it
	f, err := in.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return readBounded(f, err)
}

func readBounded(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is not a regular file", f.Name()), err)
	}
	return io.ReadAll(io.LimitReader(f, maxAccountFile))
}
