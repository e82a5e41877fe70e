package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The layout that lets many files change at one moment:
//
//	NAME -> ..data/NAME        what containers open
//	..data -> ..2026_…         replaced by rename
//	..2026_…/                  one generation of files
const (
	dataName    = "..data"
	dataNewName = "..data_tmp"
	stampLayout = "..2006_01_02_15_04_05.000000000"
)

// swap makes dir show exactly files. Readers see all of the old content or all of the new. When the
// content is there already nothing is written. What an earlier call that was cut off left behind is removed.
func swap(dir string, files Payload, group *int64, now time.Time) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	current, err := root.Readlink(dataName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if current == "" || path.Base(current) != current || !shows(root, current, files, group) {
		next, err := writeGeneration(root, files, group, now)
		if err != nil {
			return err
		}
		if err := errors.Join(removeIfThere(root, dataNewName), root.Symlink(next, dataNewName)); err != nil {
			return err
		}
		if err := root.Rename(dataNewName, dataName); err != nil {
			return err
		}
		current = next
	}
	return tidy(root, dir, current, files)
}

// shows says whether a generation holds exactly files, with their modes and owners.
func shows(root *os.Root, generation string, files Payload, group *int64) bool {
	seen := 0
	err := fs.WalkDir(root.FS(), generation, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(p, generation+"/")
		want, ok := files[name]
		if !ok || !d.Type().IsRegular() {
			return fs.SkipAll
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		have, err := root.ReadFile(p)
		if err != nil {
			return err
		}
		if !bytes.Equal(have, want.Data) || info.Mode() != goMode(want.Mode) || !owned(info, want.UID, group) {
			return fs.SkipAll
		}
		seen++
		return nil
	})
	return err == nil && seen == len(files)
}

func owned(info fs.FileInfo, uid, gid *int64) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	return (uid == nil || int64(st.Uid) == *uid) && (gid == nil || int64(st.Gid) == *gid)
}

// writeGeneration writes files into a new folder and gives its name.
func writeGeneration(root *os.Root, files Payload, group *int64, now time.Time) (string, error) {
	name := now.UTC().Format(stampLayout)
	for {
		err := root.Mkdir(name, 0o755)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		// Two writes in one clock tick, or a clock that was set back.
		now = now.Add(time.Nanosecond)
		name = now.UTC().Format(stampLayout)
	}
	if err := prepareDir(root, name, group); err != nil {
		return "", err
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		f := files[p]
		full := path.Join(name, p)
		if err := makeDirs(root, name, path.Dir(p), group); err != nil {
			return "", err
		}
		if err := root.WriteFile(full, f.Data, 0o600); err != nil {
			return "", err
		}
		if f.UID != nil || group != nil {
			if err := root.Chown(full, id(f.UID), id(group)); err != nil {
				return "", err
			}
		}
		if err := root.Chmod(full, goMode(f.Mode)); err != nil {
			return "", err
		}
	}
	return name, nil
}

func makeDirs(root *os.Root, generation, sub string, group *int64) error {
	if sub == "." {
		return nil
	}
	at := generation
	for _, part := range strings.Split(sub, "/") {
		at = path.Join(at, part)
		err := root.Mkdir(at, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := prepareDir(root, at, group); err != nil {
			return err
		}
	}
	return nil
}

func prepareDir(root *os.Root, name string, group *int64) error {
	perm := os.FileMode(0o755)
	if group != nil {
		if err := root.Chown(name, -1, int(*group)); err != nil {
			return err
		}
		perm |= os.ModeSetgid
	}
	return root.Chmod(name, perm)
}

// tidy makes the links that containers open and removes everything that belongs to no content.
func tidy(root *os.Root, dir, current string, files Payload) error {
	want := map[string]bool{}
	for p := range files {
		first, _, _ := strings.Cut(p, "/")
		want[first] = true
	}
	for name := range want {
		target := path.Join(dataName, name)
		if have, err := root.Readlink(name); err == nil && have == target {
			continue
		}
		if err := errors.Join(removeIfThere(root, name), root.Symlink(target, name)); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n := e.Name(); n != dataName && n != current && !want[n] {
			if err := root.RemoveAll(n); err != nil {
				return fmt.Errorf("remove stale %s: %w", n, err)
			}
		}
	}
	return nil
}

func removeIfThere(root *os.Root, name string) error {
	if err := root.RemoveAll(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func id(p *int64) int {
	if p == nil {
		return -1
	}
	return int(*p)
}

// goMode turns the bits of chmod(2) into Go's.
func goMode(m int32) fs.FileMode {
	out := fs.FileMode(m & 0o777)
	for bit, mode := range map[int32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&bit != 0 {
			out |= mode
		}
	}
	return out
}
