package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "k8s.io/api/core/v1"
)

// ensureHostPath checks, and for the OrCreate types makes, what is at the path. It is never
// removed: it is the machine's.
func ensureHostPath(src *v1.HostPathVolumeSource) (string, error) {
	kind := v1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	if !filepath.IsAbs(src.Path) {
		return "", fmt.Errorf("hostPath %q is not an absolute path", src.Path)
	}
	info, err := os.Stat(src.Path)
	switch {
	case err == nil:
		return src.Path, checkHostPath(src.Path, kind, info.Mode())
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("hostPath type check failed: %w", err)
	}
	switch kind {
	case v1.HostPathUnset, v1.HostPathDirectoryOrCreate:
		return src.Path, os.MkdirAll(src.Path, 0o755)
	case v1.HostPathFileOrCreate:
		// The folder is the user's to make: guessing it from a mistyped path would hide the mistake.
		f, err := os.OpenFile(src.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return "", err
		}
		return src.Path, f.Close()
	}
	return "", notA(src.Path, kind)
}

func checkHostPath(path string, kind v1.HostPathType, m fs.FileMode) error {
	ok := true
	switch kind {
	case v1.HostPathUnset:
	case v1.HostPathDirectory, v1.HostPathDirectoryOrCreate:
		ok = m.IsDir()
	case v1.HostPathFile, v1.HostPathFileOrCreate:
		ok = m.IsRegular()
	case v1.HostPathSocket:
		ok = m&fs.ModeSocket != 0
	case v1.HostPathCharDev:
		ok = m&fs.ModeCharDevice != 0
	case v1.HostPathBlockDev:
		ok = m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0
	default:
		return fmt.Errorf("%q is not a type of hostPath", kind)
	}
	if !ok {
		return notA(path, kind)
	}
	return nil
}

func notA(path string, kind v1.HostPathType) error {
	what := map[v1.HostPathType]string{
		v1.HostPathDirectory: "a directory", v1.HostPathDirectoryOrCreate: "a directory",
		v1.HostPathFile: "a file", v1.HostPathFileOrCreate: "a file", v1.HostPathSocket: "a socket file",
		v1.HostPathCharDev: "a character device", v1.HostPathBlockDev: "a block device",
	}[kind]
	return fmt.Errorf("hostPath type check failed: %s is not %s", path, what)
}
