// Package cgroup makes and removes the control groups of pods, on cgroup v1 and v2, through
// the file system or through systemd's slices. The containers' own groups are the OCI runtime's.
//
//	<root>/coracle/                         all pods
//	<root>/coracle/pod<uid>/                a guaranteed pod
//	<root>/coracle/burstable/pod<uid>/      cpu weight: the sum of its pods'
//	<root>/coracle/besteffort/pod<uid>/     cpu weight: the least
//
// With the systemd driver the same tree is made of slices: coracle-burstable-pod<uid>.slice.
// What a pod gets is computed from its spec alone (plan.go, PURE). Invariants: making twice
// changes nothing; nothing outside <root>/coracle is ever written or removed.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Config is what Cgroups needs. Log is required.
type Config struct {
	Root    string // group below which the tree is made; default "/". systemd has no other
	Driver  string // auto (default), cgroupfs or systemd
	PodPids int64  // processes a pod may have; 0: no limit
	// ReserveMemory keeps the memory that pods ask for from being reclaimed (memory.min and memory.low of cgroup v2).
	ReserveMemory bool
	MountRoot     string // default /sys/fs/cgroup
	Log           *slog.Logger
}

// treeName is the group of all pods.
const treeName = "coracle"

// The drivers.
const (
	DriverAuto     = "auto"
	DriverCgroupfs = "cgroupfs"
	DriverSystemd  = "systemd"
)

// Cgroups is the node's tree of pod groups. Safe for concurrent use.
type Cgroups struct {
	cfg     Config
	unified bool
	systemd bool
	// hierarchies are the mount points, by v1 controller name; in v2 the only one is "".
	hierarchies map[string]string
	// pageSizes are the kernel's names of the huge page sizes that its hugetlb controller limits.
	pageSizes []string

	mu sync.Mutex // one change of the tree at a time
}

// New finds out which version and driver the machine has. It writes nothing.
func New(cfg Config) (*Cgroups, error) {
	if cfg.Log == nil {
		return nil, errors.New("cgroup: Log is required")
	}
	cfg.Root = filepath.Join("/", cfg.Root)
	if cfg.MountRoot == "" {
		cfg.MountRoot = "/sys/fs/cgroup"
	}
	mounts, err := readMounts(cfg.MountRoot)
	if err != nil {
		return nil, err
	}
	c := &Cgroups{cfg: cfg, unified: mounts.unified, hierarchies: mounts.points}
	running := systemdRuns()
	switch cfg.Driver {
	case "", DriverAuto:
		c.systemd = running && c.unified
	case DriverCgroupfs:
	case DriverSystemd:
		if !running {
			return nil, errors.New("cgroup: driver systemd is configured, but systemd does not run here (no /run/systemd/system); use cgroupfs")
		}
		c.systemd = true
	default:
		return nil, fmt.Errorf("cgroup: driver %q is unknown: auto, cgroupfs or systemd", cfg.Driver)
	}
	if c.systemd && cfg.Root != "/" {
		return nil, fmt.Errorf("cgroup: root %s: with driver systemd the tree is below /; use cgroupfs for another root", cfg.Root)
	}
	if err := c.checkControllers(); err != nil {
		return nil, err
	}
	c.pageSizes, err = c.findPageSizes()
	return c, err
}

func systemdRuns() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// Unified is true on cgroup v2.
func (c *Cgroups) Unified() bool { return c.unified }

// Systemd is true when groups are systemd's slices, which the OCI runtime must be told.
func (c *Cgroups) Systemd() bool { return c.systemd }

// EnsurePod makes a pod's group with the limits of its spec and returns the parent for the
// groups of its containers: a path such as "/coracle/burstable/pod<uid>", or with systemd the
// name of a slice. Called again after a change of the spec it sets the new limits. What this kernel cannot hold is an
// error that says so; so is a memory limit below what the pod uses.
func (c *Cgroups) EnsurePod(ctx context.Context, pod *v1.Pod) (string, error) {
	return c.ensurePod(ctx, pod, false)
}

// LoosenPod gives a pod's group the larger of what it has and what the spec says, so that the groups of its containers can
// go from one to the other. EnsurePod afterwards takes back what is too much.
func (c *Cgroups) LoosenPod(ctx context.Context, pod *v1.Pod) error {
	_, err := c.ensurePod(ctx, pod, true)
	return err
}

func (c *Cgroups) ensurePod(ctx context.Context, pod *v1.Pod, loosen bool) (parent string, err error) {
	name, err := groupName(pod.UID)
	if err != nil {
		return "", err
	}
	limits := LimitsOf(pod)
	limits.Pids = c.cfg.PodPids
	if c.cfg.ReserveMemory {
		limits.reserve(pod, QOSOf(pod))
	}
	qos := class(QOSOf(pod))
	c.mu.Lock()
	defer c.mu.Unlock()
	dir := c.relative(qos, name)
	parent = filepath.Join("/", dir)
	if c.systemd {
		if loosen {
			limits = limits.loosened(c.present(dir))
		}
		limits.Quota = percentOf(limits) * limits.Period / 100
		if parent, err = c.ensureSlice(ctx, qos, name, limits); err != nil {
			return "", fmt.Errorf("make cgroup of pod %s: %w", pod.UID, err)
		}
	}
	if c.unified {
		err = c.ensureUnified(dir, limits, loosen)
	} else {
		err = c.ensureLegacy(dir, limits, loosen)
	}
	if err == nil {
		err = c.balance(ctx, qos)
	}
	if err != nil {
		return "", fmt.Errorf("make cgroup of pod %s: %w", pod.UID, err)
	}
	return parent, nil
}

// present reads the limits that the group dir has; those of a group that does not exist are none.
func (c *Cgroups) present(dir string) Limits {
	if c.unified {
		return presentUnified(filepath.Join(c.hierarchies[""], dir))
	}
	return presentLegacy(filepath.Join(c.hierarchies["cpu"], dir), filepath.Join(c.hierarchies["memory"], dir))
}

// RemovePod removes a pod's group and whatever groups are left in it. It waits for processes
// that are about to end; what is still there when ctx or the patience ends is an error.
func (c *Cgroups) RemovePod(ctx context.Context, uid types.UID) error {
	name, err := groupName(uid)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	var changed []string
	for _, qos := range classes {
		for _, path := range c.paths(qos, name) {
			did, err := removeTree(ctx, path)
			if did && !slices.Contains(changed, qos) {
				changed = append(changed, qos)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("remove cgroup of pod %s: %w", uid, err))
			}
		}
	}
	if len(errs) == 0 && c.systemd {
		errs = append(errs, c.stopSlices(ctx, name))
	}
	for _, qos := range changed {
		errs = append(errs, c.balance(ctx, qos))
	}
	return errors.Join(errs...)
}

// Pods lists the pods that have a group.
func (c *Cgroups) Pods(context.Context) (map[types.UID]bool, error) {
	out := map[types.UID]bool{}
	for _, qos := range classes {
		for _, dir := range c.paths(qos, "") {
			entries, err := os.ReadDir(dir)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list pod cgroups: %w", err)
			}
			for _, e := range entries {
				if uid, ok := c.uidOf(qos, e.Name()); e.IsDir() && ok {
					out[uid] = true
				}
			}
		}
	}
	return out, nil
}

// paths are the directories of a group in all hierarchies; an empty name is the class itself.
func (c *Cgroups) paths(qos, name string) []string {
	rel := c.relative(qos, name)
	var out []string
	seen := map[string]bool{}
	for _, mount := range c.hierarchies {
		if !seen[mount] {
			seen[mount] = true
			out = append(out, filepath.Join(mount, rel))
		}
	}
	return out
}

// relative is a group's directory below a hierarchy's mount point.
func (c *Cgroups) relative(qos, name string) string {
	if c.systemd {
		return c.slicePath(qos, name)
	}
	return filepath.Join(c.cfg.Root, treeName, qos, name)
}

func (c *Cgroups) uidOf(qos, entry string) (types.UID, bool) {
	if c.systemd {
		return c.uidOfSlice(qos, entry)
	}
	uid, ok := strings.CutPrefix(entry, podPrefix)
	return types.UID(uid), ok && uid != ""
}
