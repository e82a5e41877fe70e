package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Group is one control group, whether it exists or not. It is a place to read from; making and removing are Cgroups'.
type Group struct {
	c   *Cgroups
	rel string // below each hierarchy's mount point
}

// Folder is a tree to read from alone, below a folder laid out as cgroup v2 is; for tests of what shows usage.
func Folder(dir string) *Cgroups {
	return &Cgroups{cfg: Config{Root: "/", MountRoot: dir}, unified: true, hierarchies: map[string]string{"": dir}}
}

// Root is the machine's own group.
func (c *Cgroups) Root() Group { return Group{c, ""} }

// All is the group of all pods.
func (c *Cgroups) All() Group { return Group{c, c.relative("", "")} }

// Pod is a pod's group. A pod whose uid cannot name a group has none, and reading it finds nothing.
func (c *Cgroups) Pod(pod *v1.Pod) Group {
	name, err := groupName(pod.UID)
	if err != nil {
		name = podPrefix
	}
	return Group{c, c.relative(class(QOSOf(pod)), name)}
}

// Container is the group that the OCI runtime makes for a container of the pod.
func (g Group) Container(id string) Group {
	if g.c.systemd {
		return Group{g.c, filepath.Join(g.rel, "coracle-"+id+".scope")}
	}
	return Group{g.c, filepath.Join(g.rel, id)}
}

// Path names the group below the root, with a slash in front, as monitoring shows it.
func (g Group) Path() string { return filepath.Join("/", g.rel) }

// Usage is what a group has used and may use. What the kernel does not count is 0; limits of 0 are none.
type Usage struct {
	CPU, User, System time.Duration // since the group was made

	Periods, ThrottledPeriods uint64
	Throttled                 time.Duration
	Shares                    uint64 // of cgroup v1; in v2 what the weight stands for
	Quota, Period             time.Duration

	Memory     uint64 // bytes charged to the group
	WorkingSet uint64 // Memory less what is file cache that nobody used lately
	RSS        uint64 // anonymous memory
	Cache      uint64 // file cache
	Mapped     uint64
	Shared     uint64 // what tmpfs and shared memory hold; part of Cache
	Swap       uint64
	MaxMemory  uint64 // the most that Memory has been
	Limit      uint64
	SwapLimit  uint64 // of swap alone
	Failures   uint64 // times the limit was met
	OOMKills   uint64

	PageFaults, MajorPageFaults uint64

	Pids, PidsLimit uint64

	Devices []DeviceIO

	CPUPressure, MemoryPressure, IOPressure Pressure
}

// DeviceIO is what a group has read from and written to one block device.
type DeviceIO struct {
	Device                                         string // major:minor
	ReadBytes, WrittenBytes, ReadCount, WriteCount uint64
}

// Pressure is how long tasks have waited: some of them, and all at once. Zero where the kernel does not tell.
type Pressure struct{ Some, Full Stall }

// Stall is waiting time since the group was made, and its share of the last 10, 60 and 300 seconds in percent.
type Stall struct {
	Total                time.Duration
	Avg10, Avg60, Avg300 float64
}

// Read reads the group. False: it does not exist.
func (g Group) Read() (Usage, bool) {
	if g.c.unified {
		return g.readUnified()
	}
	return g.readLegacy()
}

// Processes are the pids in the group itself.
func (g Group) Processes() []int {
	for _, controller := range []string{"", "cpuacct", "cpu", "memory"} {
		mount, ok := g.c.hierarchies[controller]
		if !ok {
			continue
		}
		for _, below := range []string{"", "container"} { // crun's, below a systemd scope
			data, err := os.ReadFile(filepath.Join(mount, g.rel, below, "cgroup.procs"))
			if err != nil || len(data) == 0 {
				continue
			}
			var pids []int
			for _, field := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(field); err == nil {
					pids = append(pids, pid)
				}
			}
			return pids
		}
	}
	return nil
}

func (g Group) readUnified() (Usage, bool) {
	dir := filepath.Join(g.c.hierarchies[""], g.rel)
	stat, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return Usage{}, false
	}
	cpu := pairs(stat)
	memory := pairs(bytesOf(dir, "memory.stat"))
	events := pairs(bytesOf(dir, "memory.events"))
	u := Usage{
		CPU: micros(cpu["usage_usec"]), User: micros(cpu["user_usec"]), System: micros(cpu["system_usec"]),
		Periods: cpu["nr_periods"], ThrottledPeriods: cpu["nr_throttled"], Throttled: micros(cpu["throttled_usec"]),
		Memory: amount(dir, "memory.current"), RSS: memory["anon"], Cache: memory["file"], Mapped: memory["file_mapped"], Shared: memory["shmem"],
		Swap: amount(dir, "memory.swap.current"), MaxMemory: amount(dir, "memory.peak"),
		Limit: amount(dir, "memory.max"), SwapLimit: amount(dir, "memory.swap.max"),
		Failures: events["max"], OOMKills: events["oom_kill"],
		PageFaults: memory["pgfault"], MajorPageFaults: memory["pgmajfault"],
		Pids: amount(dir, "pids.current"), PidsLimit: amount(dir, "pids.max"),
		Devices:     unifiedDevices(bytesOf(dir, "io.stat")),
		CPUPressure: pressure(bytesOf(dir, "cpu.pressure")), MemoryPressure: pressure(bytesOf(dir, "memory.pressure")),
		IOPressure: pressure(bytesOf(dir, "io.pressure")),
	}
	u.WorkingSet = u.Memory - min(memory["inactive_file"], u.Memory)
	if weight := amount(dir, "cpu.weight"); weight > 0 {
		u.Shares = sharesOfWeight(weight)
	}
	if quota, period, ok := strings.Cut(strings.TrimSpace(string(bytesOf(dir, "cpu.max"))), " "); ok {
		u.Quota, u.Period = micros(natural(quota)), micros(natural(period))
	}
	return u, true
}

// ticks is the unit of cpuacct.stat; the same on every architecture that Linux runs on today.
const ticks = time.Second / 100

// unlimited is what v1 says of memory without a limit, give or take a page.
const unlimited = 1 << 62

func (g Group) readLegacy() (Usage, bool) {
	dir := func(controller string) string { return filepath.Join(g.c.hierarchies[controller], g.rel) }
	account := dir("cpuacct")
	if g.c.hierarchies["cpuacct"] == "" {
		account = dir("cpu")
	}
	if _, err := os.Stat(dir("memory")); err != nil {
		return Usage{}, false
	}
	acct := pairs(bytesOf(account, "cpuacct.stat"))
	cpu := pairs(bytesOf(dir("cpu"), "cpu.stat"))
	memory := pairs(bytesOf(dir("memory"), "memory.stat"))
	u := Usage{
		CPU:  time.Duration(amount(account, "cpuacct.usage")),
		User: time.Duration(acct["user"]) * ticks, System: time.Duration(acct["system"]) * ticks,
		Periods: cpu["nr_periods"], ThrottledPeriods: cpu["nr_throttled"], Throttled: time.Duration(cpu["throttled_time"]),
		Shares: amount(dir("cpu"), "cpu.shares"), Period: micros(amount(dir("cpu"), "cpu.cfs_period_us")),
		Quota:  micros(amount(dir("cpu"), "cpu.cfs_quota_us")), // -1, none, is read as 0
		Memory: amount(dir("memory"), "memory.usage_in_bytes"),
		RSS:    memory["total_rss"], Cache: memory["total_cache"], Mapped: memory["total_mapped_file"], Shared: memory["total_shmem"], Swap: memory["total_swap"],
		MaxMemory: amount(dir("memory"), "memory.max_usage_in_bytes"), Limit: amount(dir("memory"), "memory.limit_in_bytes"),
		Failures: amount(dir("memory"), "memory.failcnt"), OOMKills: pairs(bytesOf(dir("memory"), "memory.oom_control"))["oom_kill"],
		PageFaults: memory["total_pgfault"], MajorPageFaults: memory["total_pgmajfault"],
		Devices: legacyDevices(dir("blkio"), g.c.hierarchies["blkio"] != ""),
	}
	if g.c.hierarchies["pids"] != "" {
		u.Pids, u.PidsLimit = amount(dir("pids"), "pids.current"), amount(dir("pids"), "pids.max")
	}
	if both := amount(dir("memory"), "memory.memsw.limit_in_bytes"); both < unlimited && both > u.Limit {
		u.SwapLimit = both - u.Limit
	}
	if u.Limit >= unlimited {
		u.Limit = 0
	}
	u.WorkingSet = u.Memory - min(memory["total_inactive_file"], u.Memory)
	return u, true
}

func micros(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }

// bytesOf reads a file; one that is not there is empty.
func bytesOf(dir, file string) []byte {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	return data
}

// amount reads a file of one number; "max", a negative number and no file are 0.
func amount(dir, file string) uint64 { return natural(strings.TrimSpace(string(bytesOf(dir, file)))) }

func natural(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
