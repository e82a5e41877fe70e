package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
)

// NodeLimits is what all pods of the node together may use. Zero means no limit.
type NodeLimits struct {
	MilliCPU int64 // a share of a busy machine, not a cap
	Memory   int64 // bytes
	Pids     int64
}

// EnsureNode makes the group of all pods and gives it what is left of the machine for them. Called again it sets the new
// limits. A memory limit that is below what pods use already is an error.
func (c *Cgroups) EnsureNode(ctx context.Context, l NodeLimits) error {
	limits := Limits{Shares: maxShares, Period: quotaPeriod, Memory: l.Memory, Pids: l.Pids}
	if l.MilliCPU > 0 {
		limits.Shares = SharesOf(l.MilliCPU)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.ensureNode(ctx, limits); err != nil {
		return fmt.Errorf("make cgroup of all pods: %w", err)
	}
	return nil
}

func (c *Cgroups) ensureNode(ctx context.Context, limits Limits) error {
	dir := c.relative("", "")
	if c.systemd {
		if _, err := c.ensureSlice(ctx, "", "", limits); err != nil {
			return err
		}
	}
	if !c.unified {
		return c.ensureNodeLegacy(dir, limits)
	}
	at, _, err := c.makeUnified(dir)
	if err != nil {
		return err
	}
	if err := delegate(at); err != nil {
		return err
	}
	if err := lowers(presentUnified(at).Memory, limits.Memory, number(filepath.Join(at, "memory.current"))); err != nil {
		return err
	}
	errs := []error{set(at, "cpu.weight", WeightOf(limits.Shares)), write(at, "memory.max", orMax(limits.Memory))}
	if exists(at, "pids.max") {
		errs = append(errs, write(at, "pids.max", orMax(limits.Pids)))
	}
	return errors.Join(errs...)
}

func (c *Cgroups) ensureNodeLegacy(dir string, limits Limits) error {
	cpu, _, err := c.makeLegacy("cpu", dir)
	if err != nil {
		return err
	}
	memory, _, err := c.makeLegacy("memory", dir)
	if err != nil {
		return err
	}
	errs := []error{set(cpu, "cpu.shares", limits.Shares), set(memory, "memory.limit_in_bytes", orNone(limits.Memory))}
	if c.hierarchies["pids"] != "" {
		pids, _, err := c.makeLegacy("pids", dir)
		if err != nil {
			return err
		}
		errs = append(errs, write(pids, "pids.max", orMax(limits.Pids)))
	}
	return errors.Join(errs...)
}

// protect hands the pods' reservations up: the kernel heeds them only as far as every group above reserves as much.
func (c *Cgroups) protect(ctx context.Context) error {
	if !c.cfg.ReserveMemory {
		return nil
	}
	hard := c.reserved("", "memory.min")
	soft := c.reserved("burstable", "memory.low")
	for _, g := range []struct {
		qos       string
		hard, low int64
	}{{"", hard, soft}, {"burstable", 0, soft}} {
		dir := filepath.Join(c.hierarchies[""], c.relative(g.qos, ""))
		if !exists(dir, "memory.min") || number(filepath.Join(dir, "memory.min")) == g.hard && number(filepath.Join(dir, "memory.low")) == g.low {
			continue
		}
		if c.systemd {
			err := systemctl(ctx, "set-property", "--runtime", c.slice(g.qos, ""), "MemoryMin="+strconv.FormatInt(g.hard, 10), "MemoryLow="+strconv.FormatInt(g.low, 10))
			if err != nil {
				return fmt.Errorf("reserve memory for pods: %w", err)
			}
			continue
		}
		if err := errors.Join(set(dir, "memory.min", g.hard), set(dir, "memory.low", g.low)); err != nil {
			return fmt.Errorf("reserve memory for pods: %w", err)
		}
	}
	return nil
}

// reserved adds up a file of the pods of a class.
func (c *Cgroups) reserved(qos, file string) int64 {
	dirs, _ := filepath.Glob(filepath.Join(c.hierarchies[""], c.relative(qos, ""), "*"))
	sum := int64(0)
	for _, dir := range dirs {
		if _, ok := c.uidOf(qos, filepath.Base(dir)); ok {
			sum += number(filepath.Join(dir, file))
		}
	}
	return sum
}
