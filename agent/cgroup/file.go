package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

var errNoQuota = errors.New("a CPU limit cannot be held: this kernel has no CPU bandwidth control (CONFIG_CFS_BANDWIDTH)")

// lowers refuses a memory limit that is lower than the present one and than what is in use: the kernel would kill.
func lowers(present, want, used int64) error {
	if want == 0 || present != 0 && want >= present || used <= want {
		return nil
	}
	return fmt.Errorf("attempting to set pod memory limit (%d) below current usage (%d)", want, used)
}

// orNone is how v1 and v2's numbers spell "no limit" for 0.
func orNone(n int64) int64 {
	if n > 0 {
		return n
	}
	return -1
}

// orMax is how files of cgroup v2, and pids.max in both, spell it.
func orMax(n int64) string {
	if n > 0 {
		return strconv.FormatInt(n, 10)
	}
	return "max"
}

// set writes a value where the file does not hold it already.
func set(dir, file string, value int64) error {
	return write(dir, file, strconv.FormatInt(value, 10))
}

func write(dir, file, value string) error {
	path := filepath.Join(dir, file)
	if data, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(data)) == value {
		return nil
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set %s to %s: %w", file, value, err)
	}
	return nil
}

// number reads a file of one number; 0 where it is gone or says something else.
func number(path string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
