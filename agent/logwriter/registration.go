package logwriter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	registrationFile = "log.json"
	pendingPrefix    = ".new-"
	fifoMode         = 0o600
)

// Registration tells the log writer where a container's output comes from and goes to. It is
// the content of <ioDir>/<id>/log.json; an unknown field is ignored, so that an older log
// writer serves a newer agent.
type Registration struct {
	// LogPath is the absolute path of the CRI log file.
	LogPath string `json:"logPath"`
	// TTY is true when the container has a terminal: there is then no stderr.
	TTY bool `json:"tty,omitempty"`
	// Stdin is true when the container reads from a FIFO of its own.
	Stdin bool `json:"stdin,omitempty"`
}

// Paths are the FIFOs of one container; empty where it has none.
type Paths struct{ Stdin, Stdout, Stderr string }

// PathsOf gives the FIFOs of the container id without touching them.
func PathsOf(ioDir, id string, r Registration) Paths {
	dir := filepath.Join(ioDir, id)
	p := Paths{Stdout: filepath.Join(dir, "stdout")}
	if !r.TTY {
		p.Stderr = filepath.Join(dir, "stderr")
	}
	if r.Stdin {
		p.Stdin = filepath.Join(dir, "stdin")
	}
	return p
}

// Register makes the FIFOs of a container and hands them to the log writer, which need not
// be running. The directory appears under its final name complete or not at all.
// Registering again is a no-op.
func Register(ioDir, id string, r Registration) (Paths, error) {
	if id == "" || strings.ContainsAny(id, "/\x00") || strings.HasPrefix(id, ".") {
		return Paths{}, fmt.Errorf("register log of container %q: not usable as a directory name", id)
	}
	if !filepath.IsAbs(r.LogPath) {
		return Paths{}, fmt.Errorf("register log of container %s: log path %q is not absolute", id, r.LogPath)
	}
	final := filepath.Join(ioDir, id)
	if _, err := os.Lstat(filepath.Join(final, registrationFile)); err == nil {
		return PathsOf(ioDir, id, r), nil
	}
	tmp := filepath.Join(ioDir, pendingPrefix+id)
	if err := os.RemoveAll(tmp); err != nil {
		return Paths{}, fmt.Errorf("register log of container %s: %w", id, err)
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return Paths{}, fmt.Errorf("register log of container %s: %w", id, err)
	}
	made := PathsOf(ioDir, pendingPrefix+id, r)
	for _, fifo := range []string{made.Stdin, made.Stdout, made.Stderr} {
		if fifo == "" {
			continue
		}
		if err := unix.Mkfifo(fifo, fifoMode); err != nil {
			return Paths{}, fmt.Errorf("make fifo %s: %w", fifo, err)
		}
	}
	data, err := json.Marshal(r)
	if err != nil {
		return Paths{}, fmt.Errorf("register log of container %s: %w", id, err)
	}
	if err := os.WriteFile(filepath.Join(tmp, registrationFile), data, 0o600); err != nil {
		return Paths{}, fmt.Errorf("register log of container %s: %w", id, err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return Paths{}, fmt.Errorf("register log of container %s: %w", id, err)
	}
	return PathsOf(ioDir, id, r), nil
}

// Unregister removes the FIFOs of a container. The log writer then reads what is left in
// them and lets go. The log file stays. Unregistering what is not there is a no-op.
func Unregister(ioDir, id string) error {
	var errs []error
	for _, dir := range []string{filepath.Join(ioDir, pendingPrefix+id), filepath.Join(ioDir, id)} {
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("unregister log of container %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}

// Read gives a container's registration; the error satisfies fs.ErrNotExist where there is none.
func Read(ioDir, id string) (Registration, error) {
	data, err := os.ReadFile(filepath.Join(ioDir, id, registrationFile))
	if err != nil {
		return Registration{}, fmt.Errorf("read log registration of container %s: %w", id, err)
	}
	return parseRegistration(id, data)
}

func parseRegistration(id string, data []byte) (Registration, error) {
	var r Registration
	if err := json.Unmarshal(data, &r); err != nil {
		return Registration{}, fmt.Errorf("parse log registration of container %s: %w", id, err)
	}
	if !filepath.IsAbs(r.LogPath) || strings.ContainsRune(r.LogPath, 0) {
		return Registration{}, fmt.Errorf("parse log registration of container %s: log path %q is not absolute", id, r.LogPath)
	}
	return r, nil
}

// Registered lists the ids that have a directory under ioDir.
func Registered(ioDir string) ([]string, error) {
	entries, err := os.ReadDir(ioDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list log registrations: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
