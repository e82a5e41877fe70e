package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// unlimitedMemory is from where on cgroup v1 means none: the page-aligned end of a signed 64-bit number.
const unlimitedMemory = 1 << 62

// ensureLegacy makes a pod's group in the v1 hierarchies that limit it. The OCI runtime makes it
// in the others when it makes the containers' groups.
func (c *Cgroups) ensureLegacy(parent string, limits Limits, loosen bool) error {
	cpu, _, err := c.makeLegacy("cpu", parent)
	if err != nil {
		return err
	}
	memory, fresh, err := c.makeLegacy("memory", parent)
	if err != nil {
		return err
	}
	if !fresh {
		present := presentLegacy(cpu, memory)
		if loosen {
			limits = limits.loosened(present)
		}
		if err := lowers(present.Memory, limits.Memory, number(filepath.Join(memory, "memory.usage_in_bytes"))); err != nil {
			return err
		}
	}
	errs := []error{
		set(cpu, "cpu.shares", limits.Shares),
		setQuota(cpu, limits),
		set(memory, "memory.limit_in_bytes", orNone(limits.Memory)),
	}
	if c.hierarchies["pids"] != "" {
		pids, _, err := c.makeLegacy("pids", parent)
		if err != nil {
			return err
		}
		errs = append(errs, write(pids, "pids.max", orMax(limits.Pids)))
	}
	return errors.Join(append(errs, c.legacyHugePages(parent, limits))...)
}

// setQuota sets CPU bandwidth. A kernel built without it is no trouble as long as nobody asks for it.
func setQuota(cpu string, limits Limits) error {
	if _, err := os.Stat(filepath.Join(cpu, "cpu.cfs_quota_us")); err != nil {
		if limits.Quota == 0 {
			return nil
		}
		return errNoQuota
	}
	return errors.Join(set(cpu, "cpu.cfs_period_us", limits.Period), set(cpu, "cpu.cfs_quota_us", orNone(limits.Quota)))
}

func (c *Cgroups) legacyHugePages(parent string, limits Limits) error {
	if err := c.checkPageSizes(limits); err != nil || len(c.pageSizes) == 0 {
		return err
	}
	dir, _, err := c.makeLegacy("hugetlb", parent)
	if err != nil {
		return err
	}
	var errs []error
	for _, size := range c.pageSizes {
		errs = append(errs, set(dir, "hugetlb."+size+".limit_in_bytes", limits.HugePages[size]))
	}
	return errors.Join(errs...)
}

// presentLegacy reads the limits that a group has.
func presentLegacy(cpu, memory string) Limits {
	l := Limits{Quota: max(number(filepath.Join(cpu, "cpu.cfs_quota_us")), 0), Memory: number(filepath.Join(memory, "memory.limit_in_bytes"))}
	if l.Memory >= unlimitedMemory {
		l.Memory = 0
	}
	return l
}

// makeLegacy makes a group in one hierarchy, or finds it.
func (c *Cgroups) makeLegacy(controller, parent string) (dir string, fresh bool, err error) {
	mount := c.hierarchies[controller]
	dir = filepath.Join(mount, parent)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", false, fmt.Errorf("make group: %w", err)
	}
	switch err := os.Mkdir(dir, 0o755); {
	case errors.Is(err, os.ErrExist):
	case err != nil:
		return "", false, fmt.Errorf("make group: %w", err)
	default:
		fresh = true
	}
	// Groups below must count towards this one; kernels before 5.11 still let one choose.
	if controller == "memory" && fresh {
		for at := dir; at != mount && at != "/"; at = filepath.Dir(at) {
			if data, err := os.ReadFile(filepath.Join(at, "memory.use_hierarchy")); err == nil && strings.TrimSpace(string(data)) == "0" {
				_ = os.WriteFile(filepath.Join(at, "memory.use_hierarchy"), []byte("1"), 0)
			}
		}
	}
	return dir, fresh, nil
}
