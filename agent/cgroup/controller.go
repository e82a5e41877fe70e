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

// checkControllers names a controller that pods, or the configuration, cannot do without.
func (c *Cgroups) checkControllers() error {
	have, err := c.controllers()
	if err != nil {
		return err
	}
	for _, need := range []string{"cpu", "memory"} {
		if !slices.Contains(have, need) {
			return fmt.Errorf("cgroup: controller %s is not there below %s; enable it in the kernel (cgroup_enable=%s on its command line, on a Raspberry Pi in /boot/firmware/cmdline.txt)", need, c.cfg.MountRoot, need)
		}
	}
	if c.cfg.PodPids > 0 && !slices.Contains(have, "pids") {
		return fmt.Errorf("cgroup: podPidsLimit is %d, but controller pids is not there below %s (CONFIG_CGROUP_PIDS); enable it or set podPidsLimit to 0", c.cfg.PodPids, c.cfg.MountRoot)
	}
	if c.cfg.ReserveMemory && !c.unified {
		return errors.New("cgroup: memoryReservation is tiered, which takes cgroup v2, and this machine has v1; boot it with systemd.unified_cgroup_hierarchy=1 or set memoryReservation to none")
	}
	return nil
}

// controllers are those that the machine's hierarchies have. In v1 those of a v2 mount beside them do not count: OCI
// runtimes do not use them.
func (c *Cgroups) controllers() ([]string, error) {
	if c.unified {
		data, err := os.ReadFile(filepath.Join(c.cfg.MountRoot, "cgroup.controllers"))
		if err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
		return strings.Fields(string(data)), nil
	}
	var have []string
	for name := range c.hierarchies {
		have = append(have, name)
	}
	return have, nil
}

// hugePagesDir is where the kernel lists its huge page sizes.
const hugePagesDir = "/sys/kernel/mm/hugepages"

// findPageSizes lists the sizes that groups can be limited in; none where the controller is not there.
func (c *Cgroups) findPageSizes() ([]string, error) {
	have, err := c.controllers()
	if err != nil || !slices.Contains(have, "hugetlb") {
		return nil, err
	}
	entries, err := os.ReadDir(hugePagesDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cgroup: list huge page sizes: %w", err)
	}
	var sizes []string
	for _, e := range entries {
		kb, ok := strings.CutSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if n, err := strconv.ParseInt(kb, 10, 64); ok && err == nil && n > 0 && n < 1<<40 {
			sizes = append(sizes, pageSizeName(n<<10))
		}
	}
	return sizes, nil
}

// checkPageSizes refuses huge pages that this kernel does not have or cannot limit.
func (c *Cgroups) checkPageSizes(limits Limits) error {
	for size := range limits.HugePages {
		if !slices.Contains(c.pageSizes, size) {
			return fmt.Errorf("huge pages of %s cannot be given: this kernel limits %s (controller hugetlb, sizes in %s)", size, listed(c.pageSizes), hugePagesDir)
		}
	}
	return nil
}

func listed(sizes []string) string {
	if len(sizes) == 0 {
		return "none"
	}
	return strings.Join(sizes, ", ")
}

// Gaps are sentences about what this kernel cannot do for pods that ask for it; none on most machines. EnsureNode must
// have been called: on cgroup v2 the files of a group tell.
func (c *Cgroups) Gaps() []string {
	dir := filepath.Join(c.hierarchies["cpu"], c.relative("", ""))
	quota := "cpu.cfs_quota_us"
	if c.unified {
		dir, quota = filepath.Join(c.hierarchies[""], c.relative("", "")), "cpu.max"
	}
	var out []string
	if !exists(dir, quota) {
		out = append(out, "pods with a CPU limit are refused: the kernel has no CPU bandwidth control (CONFIG_CFS_BANDWIDTH)")
	}
	if len(c.pageSizes) == 0 && hugePagesReserved() {
		out = append(out, "pods that ask for huge pages are refused: controller hugetlb is not there below "+c.cfg.MountRoot)
	}
	if !c.SwapLimits() && swapInUse() {
		out = append(out, "containers may swap: the kernel does not count swap for groups (swapaccount=1 on its command line)")
	}
	return out
}

// SwapLimits is true where the kernel counts and limits swap for groups.
func (c *Cgroups) SwapLimits() bool {
	if c.unified {
		return exists(filepath.Join(c.hierarchies[""], c.relative("", "")), "memory.swap.max")
	}
	return exists(c.hierarchies["memory"], "memory.memsw.limit_in_bytes")
}

func hugePagesReserved() bool {
	files, _ := filepath.Glob(hugePagesDir + "/*/nr_hugepages")
	return slices.ContainsFunc(files, func(f string) bool { return number(f) > 0 })
}

func swapInUse() bool {
	data, err := os.ReadFile("/proc/swaps")
	return err == nil && strings.Count(strings.TrimSpace(string(data)), "\n") > 0 // a line for each, below the heading
}
