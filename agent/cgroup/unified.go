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
func (c *Cgroups) ensureUnified(parent string, limits Limits) error {
	mount := c.hierarchies[""]
	at := mount
	for _, part := range strings.Split(strings.Trim(parent, "/"), "/") {
		if err := delegate(at); err != nil {
			return err
		}
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make group: %w", err)
		}
	}
	if err := delegate(at); err != nil {
		return err
	}
	cpu, memory, pids := "max", "max", "max"
	if limits.Quota > 0 {
		cpu = strconv.FormatInt(limits.Quota, 10)
	}
	if limits.Memory > 0 {
		memory = strconv.FormatInt(limits.Memory, 10)
	}
	if limits.Pids > 0 {
		pids = strconv.FormatInt(limits.Pids, 10)
	}
	return errors.Join(
		set(at, "cpu.weight", WeightOf(limits.Shares)),
		optional(write(at, "cpu.max", cpu+" "+strconv.FormatInt(limits.Period, 10))),
		write(at, "memory.max", memory),
		optional(write(at, "pids.max", pids)),
	)
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
