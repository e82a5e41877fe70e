package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// balance gives the class groups their CPU weight: as much as the pods in it ask for together,
// so that classes share a busy machine as their pods' requests say. changed is the class whose pods have changed.
func (c *Cgroups) balance(ctx context.Context, changed string) error {
	file, mount, property := "cpu.shares", c.hierarchies["cpu"], "CPUShares"
	least, most := int64(minShares), int64(maxShares)
	// In v2 weights are added up, not shares: what counts is the ratio to the guaranteed pods beside the class.
	if c.unified {
		file, mount, property = "cpu.weight", c.hierarchies[""], "CPUWeight"
		least, most = 1, 10000
	}
	if changed != "" {
		dir := filepath.Join(mount, c.relative(changed, ""))
		weight := least
		var err error
		if changed == "burstable" {
			if weight, err = c.sum(changed, dir, file); err != nil {
				return fmt.Errorf("weigh the %s pods: %w", changed, err)
			}
			weight = min(max(weight, least), most)
		}
		if !c.systemd {
			err = set(dir, file, weight)
		} else if number(filepath.Join(dir, file)) != weight {
			err = systemctl(ctx, "set-property", "--runtime", c.slice(changed, ""), property+"="+strconv.FormatInt(weight, 10))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("weigh the %s pods: %w", changed, err)
		}
	}
	return c.protect(ctx)
}

// sum adds up what file holds in the groups of a class's pods.
func (c *Cgroups) sum(qos, dir, file string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	for _, e := range entries {
		if _, ok := c.uidOf(qos, e.Name()); ok && e.IsDir() {
			total += number(filepath.Join(dir, e.Name(), file))
		}
	}
	return total, nil
}
