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
// so that classes share a busy machine as their pods' requests say.
func (c *Cgroups) balance(ctx context.Context) error {
	file, mount, property := "cpu.shares", c.hierarchies["cpu"], "CPUShares"
	least, most := int64(minShares), int64(maxShares)
	// In v2 weights are added up, not shares: what counts is the ratio to the guaranteed pods beside the class.
	if c.unified {
		file, mount, property = "cpu.weight", c.hierarchies[""], "CPUWeight"
		least, most = 1, 10000
	}
	for _, qos := range classes {
		if qos == "" {
			continue
		}
		dir := filepath.Join(mount, c.relative(qos, ""))
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("weigh the %s pods: %w", qos, err)
		}
		weight := least
		if qos == "burstable" {
			sum := int64(0)
			for _, e := range entries {
				if _, ok := c.uidOf(qos, e.Name()); ok && e.IsDir() {
					sum += number(filepath.Join(dir, e.Name(), file))
				}
			}
			weight = min(max(sum, least), most)
		}
		if !c.systemd {
			err = set(dir, file, weight)
		} else if number(filepath.Join(dir, file)) != weight {
			err = systemctl(ctx, "set-property", "--runtime", c.slice(qos, ""), property+"="+strconv.FormatInt(weight, 10))
		}
		if err != nil {
			return fmt.Errorf("weigh the %s pods: %w", qos, err)
		}
	}
	return c.protect(ctx)
}
