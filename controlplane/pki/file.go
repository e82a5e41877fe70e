package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"coracle/internal/atomicfile"
)

const (
	fileMode = 0o600
	dirMode  = 0o700
)

func writeFile(path string, data []byte) error { return atomicfile.Write(path, data, fileMode) }

// readFile returns nil without error when the file does not exist. A mode that lets others read is tightened, because a
// copy made by hand (cp, tar as another user) commonly loses it.
func readFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(path, fileMode); err != nil {
			return nil, fmt.Errorf("make %s private: %w", path, err)
		}
	}
	return data, nil
}

// lock keeps two processes from making the same files at once. It is released by the returned function or by the kernel
// when the process dies.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// removeLeftovers deletes temporary files of writes that a kill cut short. The lock is held.
func (m *Material) removeLeftovers() error {
	var errs []error
	for _, path := range []string{m.CAFile, m.CAKeyFile, m.ServiceAccountKeyFile, m.EncryptionKeyFile, m.markerFile(),
		m.Serving.File, m.Gateway.File, m.Admin.File, m.KubeconfigFile} {
		errs = append(errs, atomicfile.RemoveLeftovers(path))
	}
	return errors.Join(errs...)
}
