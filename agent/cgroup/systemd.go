package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// systemctlTimeout bounds one call: systemd answers in milliseconds unless it hangs.
const systemctlTimeout = 10 * time.Second

// slice is the unit name of a group. A dash separates the levels, so those of a uid become
// underscores: pod 1234-ab in burstable is coracle-burstable-pod1234_ab.slice.
func (c *Cgroups) slice(qos, name string) string {
	unit := treeName
	for _, part := range []string{qos, strings.ReplaceAll(name, "-", "_")} {
		if part != "" {
			unit += "-" + part
		}
	}
	return unit + ".slice"
}

// slicePath is the directory of a slice: every level is a directory of its own.
func (c *Cgroups) slicePath(qos, name string) string {
	path := treeName + ".slice"
	if qos != "" {
		path = filepath.Join(path, c.slice(qos, ""))
	}
	if name != "" {
		path = filepath.Join(path, c.slice(qos, name))
	}
	return path
}

func (c *Cgroups) uidOfSlice(qos, entry string) (types.UID, bool) {
	prefix := strings.TrimSuffix(c.slice(qos, ""), ".slice") + "-" + podPrefix
	rest, ok := strings.CutPrefix(entry, prefix)
	rest, isSlice := strings.CutSuffix(rest, ".slice")
	return types.UID(strings.ReplaceAll(rest, "_", "-")), ok && isSlice && rest != ""
}

// ensureSlice starts a pod's slice and gives it its limits for this boot. The caller writes them to its files as well, as
// systemd knows no huge pages.
func (c *Cgroups) ensureSlice(ctx context.Context, qos, name string, limits Limits) (string, error) {
	unit := c.slice(qos, name)
	if err := systemctl(ctx, append([]string{"set-property", "--runtime", unit}, sliceProperties(limits, c.unified, c.cfg.ReserveMemory)...)...); err != nil {
		return "", fmt.Errorf("make slice %s: %w", unit, err)
	}
	if err := systemctl(ctx, "start", unit); err != nil {
		return "", fmt.Errorf("make slice %s: %w", unit, err)
	}
	return unit, nil
}

// percentOf is a quota in percent of a CPU, rounded up: systemd keeps no fractions over a reload.
func percentOf(limits Limits) int64 { return (limits.Quota*100 + limits.Period - 1) / limits.Period }

// sliceProperties is the limits in systemd.resource-control(5)'s words.
func sliceProperties(limits Limits, unified, reserve bool) []string {
	cpu, memory, pids := "CPUQuota=", "infinity", "infinity"
	if limits.Quota > 0 {
		cpu = fmt.Sprintf("CPUQuota=%d%%", percentOf(limits))
	}
	if limits.Memory > 0 {
		memory = strconv.FormatInt(limits.Memory, 10)
	}
	if limits.Pids > 0 {
		pids = strconv.FormatInt(limits.Pids, 10)
	}
	if !unified {
		return []string{"CPUShares=" + strconv.FormatInt(limits.Shares, 10), cpu, "MemoryLimit=" + memory, "TasksMax=" + pids, "CPUAccounting=yes", "MemoryAccounting=yes"}
	}
	out := []string{"CPUWeight=" + strconv.FormatInt(WeightOf(limits.Shares), 10), cpu, "MemoryMax=" + memory, "TasksMax=" + pids, "CPUAccounting=yes", "MemoryAccounting=yes"}
	if reserve {
		out = append(out, "MemoryMin="+strconv.FormatInt(limits.MemoryMin, 10), "MemoryLow="+strconv.FormatInt(limits.MemoryLow, 10))
	}
	return out
}

// controlDir holds what set-property --runtime has set, a folder for each unit.
const controlDir = "/run/systemd/system.control"

// notLoaded is true when systemd does not know the unit.
func notLoaded(err error) bool { return strings.Contains(err.Error(), "not loaded") }

// stopSlices stops a pod's slice in whatever class it is, and forgets its limits.
func (c *Cgroups) stopSlices(ctx context.Context, name string) error {
	var errs []error
	for _, qos := range classes {
		unit := c.slice(qos, name)
		if _, err := os.Stat(filepath.Join(controlDir, unit+".d")); errors.Is(err, os.ErrNotExist) {
			continue // not of this class: asking systemd would cost a process each
		}
		if err := systemctl(ctx, "stop", unit); err != nil && !notLoaded(err) {
			errs = append(errs, fmt.Errorf("stop slice %s: %w", unit, err))
			continue
		}
		if err := systemctl(ctx, "revert", unit); err != nil && !notLoaded(err) {
			errs = append(errs, fmt.Errorf("forget slice %s: %w", unit, err))
		}
	}
	return errors.Join(errs...)
}

func systemctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, systemctlTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
