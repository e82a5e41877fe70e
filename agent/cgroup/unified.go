package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// wanted are the v2 controllers that pods' groups get, where the kernel has them.
var wanted = []string{"cpu", "cpuset", "memory", "pids", "hugetlb", "io"}

// ensureUnified makes a pod's group in cgroup v2, handing the controllers down on the way.
func (c *Cgroups) ensureUnified(parent string, limits Limits, loosen bool) error {
	at, fresh, err := c.makeUnified(parent)
	if err != nil {
		return err
	}
	if err := delegate(at); err != nil {
		return err
	}
	if !fresh {
		present := presentUnified(at)
		if loosen {
			limits = limits.loosened(present)
		}
		if err := lowers(present.Memory, limits.Memory, number(filepath.Join(at, "memory.current"))); err != nil {
			return err
		}
	}
	errs := []error{
		set(at, "cpu.weight", WeightOf(limits.Shares)),
		setMax(at, limits),
		write(at, "memory.max", orMax(limits.Memory)),
	}
	if exists(at, "pids.max") {
		errs = append(errs, write(at, "pids.max", orMax(limits.Pids)))
	}
	if c.cfg.ReserveMemory {
		errs = append(errs, set(at, "memory.min", limits.MemoryMin), set(at, "memory.low", limits.MemoryLow))
	}
	if err := c.checkPageSizes(limits); err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, size := range c.pageSizes {
		errs = append(errs, set(at, "hugetlb."+size+".max", limits.HugePages[size]))
	}
	return errors.Join(errs...)
}

// makeUnified makes a group, or finds it.
func (c *Cgroups) makeUnified(parent string) (dir string, fresh bool, err error) {
	at := c.hierarchies[""]
	for _, part := range strings.Split(strings.Trim(parent, "/"), "/") {
		if err := delegate(at); err != nil {
			return "", false, err
		}
		at = filepath.Join(at, part)
		err := os.Mkdir(at, 0o755)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return "", false, fmt.Errorf("make group: %w", err)
		}
		fresh = err == nil
	}
	return at, fresh, nil
}

// setMax sets CPU bandwidth. A kernel built without it is no trouble as long as nobody asks for it.
func setMax(dir string, limits Limits) error {
	if !exists(dir, "cpu.max") {
		if limits.Quota == 0 {
			return nil
		}
		return errNoQuota
	}
	return write(dir, "cpu.max", orMax(limits.Quota)+" "+strconv.FormatInt(limits.Period, 10))
}

// presentUnified reads the limits that a group has; "max" reads as 0.
func presentUnified(dir string) Limits {
	l := Limits{Memory: number(filepath.Join(dir, "memory.max"))}
	if data, err := os.ReadFile(filepath.Join(dir, "cpu.max")); err == nil {
		quota, _, _ := strings.Cut(string(data), " ")
		l.Quota, _ = strconv.ParseInt(quota, 10, 64)
	}
	return l
}

func exists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

// delegate turns the wanted controllers on for the children of dir.
func delegate(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers of %s: %w", dir, err)
	}
	on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return fmt.Errorf("read controllers of %s: %w", dir, err)
	}
	available, enabled := strings.Fields(string(have)), strings.Fields(string(on))
	var turn []string
	for _, name := range wanted {
		if slices.Contains(available, name) && !slices.Contains(enabled, name) {
			turn = append(turn, "+"+name)
		}
	}
	if len(turn) == 0 {
		return nil
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(turn, " ")), 0); err != nil {
		return fmt.Errorf("turn on %s below %s: %w; processes directly in that group prevent it", strings.Join(turn, " "), dir, err)
	}
	return nil
}
