package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ensureLegacy makes a pod's group in the v1 hierarchies that limit it. The OCI runtime makes it
// in the others when it makes the containers' groups.
func (c *Cgroups) ensureLegacy(parent string, limits Limits) error {
	cpu, err := c.makeLegacy("cpu", parent)
	if err != nil {
		return err
	}
	memory, err := c.makeLegacy("memory", parent)
	if err != nil {
		return err
	}
	quota := int64(-1)
	if limits.Quota > 0 {
		quota = limits.Quota
	}
	bytes := int64(-1)
	if limits.Memory > 0 {
		bytes = limits.Memory
	}
	errs := []error{
		set(cpu, "cpu.shares", limits.Shares),
		optional(set(cpu, "cpu.cfs_period_us", limits.Period)),
		optional(set(cpu, "cpu.cfs_quota_us", quota)),
		set(memory, "memory.limit_in_bytes", bytes),
	}
	if c.hierarchies["pids"] != "" {
		pids, err := c.makeLegacy("pids", parent)
		if err != nil {
			return err
		}
		most := "max"
		if limits.Pids > 0 {
			most = strconv.FormatInt(limits.Pids, 10)
		}
		errs = append(errs, write(pids, "pids.max", most))
	}
	return errors.Join(errs...)
}

func (c *Cgroups) makeLegacy(controller, parent string) (string, error) {
	dir := filepath.Join(c.hierarchies[controller], parent)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make group: %w", err)
	}
	// Groups below must count towards this one; kernels before 5.11 still let one choose.
	if controller == "memory" {
		for at := dir; at != c.hierarchies[controller]; at = filepath.Dir(at) {
			if data, err := os.ReadFile(filepath.Join(at, "memory.use_hierarchy")); err == nil && strings.TrimSpace(string(data)) == "0" {
				_ = os.WriteFile(filepath.Join(at, "memory.use_hierarchy"), []byte("1"), 0)
			}
		}
	}
	return dir, nil
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
		return fmt.Errorf("set %s: %w", file, err)
	}
	return nil
}

// optional passes over files that a kernel built without the feature does not have.
func optional(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
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
