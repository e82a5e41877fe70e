package cgroup

import (
	"fmt"
	"math"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"coracle/agent/pod"
)

// The kernel's bounds and Kubernetes' choices for CPU.
const (
	minShares   = 2
	maxShares   = 262144
	quotaPeriod = 100000 // µs
	minQuota    = 1000   // µs; the kernel refuses less
)

// Limits is what a pod's group is given. Zero means no limit of that kind.
type Limits struct {
	Shares int64 // cgroup v1 cpu.shares, always set
	Quota  int64 // µs of CPU in each period
	Period int64 // µs
	Memory int64 // bytes
	Pids   int64
	// HugePages in bytes, by the kernel's name of the page size ("2MB"). A size that is not named gets none.
	HugePages map[string]int64
	// MemoryMin and MemoryLow are bytes that are not, or last, reclaimed; cgroup v2 alone has them.
	MemoryMin, MemoryLow int64
}

// LimitsOf computes the limits of a pod's group: what its containers ask for together, and what
// they may use together where each of them is limited.
func LimitsOf(p *v1.Pod) Limits {
	requests, limits := pod.Resources(p)
	out := Limits{Shares: SharesOf(requests.Cpu().MilliValue()), Period: quotaPeriod}
	if cpu, ok := limits[v1.ResourceCPU]; ok && !cpu.IsZero() {
		out.Quota = QuotaOf(cpu.MilliValue())
	}
	if memory, ok := limits[v1.ResourceMemory]; ok {
		out.Memory = memory.Value()
	}
	for name, q := range requests { // of huge pages request and limit are the same
		if size, ok := PageSize(name); ok && !q.IsZero() {
			if out.HugePages == nil {
				out.HugePages = map[string]int64{}
			}
			out.HugePages[size] = q.Value()
		}
	}
	return out
}

// reserve gives the group the memory that its requests are to be sure of: hard for guaranteed pods, soft for burstable ones.
func (l *Limits) reserve(p *v1.Pod, qos v1.PodQOSClass) {
	requests, _ := pod.Resources(p)
	switch qos {
	case v1.PodQOSGuaranteed:
		l.MemoryMin = requests.Memory().Value()
	case v1.PodQOSBurstable:
		l.MemoryLow = requests.Memory().Value()
	}
}

// loosened lets a group have what it has at present where that is more, while the groups in it go from one to the other.
// Shares and weights bound nothing and need no such care.
func (l Limits) loosened(present Limits) Limits {
	l.Quota, l.Memory = looser(l.Quota, present.Quota), looser(l.Memory, present.Memory)
	return l
}

// looser is the larger of two limits of which 0 is none.
func looser(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// SharesOf turns a CPU request in millicores into cpu.shares.
func SharesOf(milli int64) int64 {
	if milli <= 0 {
		return minShares
	}
	return min(max(milli*1024/1000, minShares), maxShares)
}

// QuotaOf turns a CPU limit in millicores into a quota for the standard period; 0 is none.
func QuotaOf(milli int64) int64 {
	if milli <= 0 {
		return 0
	}
	return max(milli*quotaPeriod/1000, minQuota)
}

// WeightOf turns cpu.shares [2, 262144] into cgroup v2's cpu.weight [1, 10000] so that the default of the one, 1024, is
// the default of the other, 100: the curve that OCI runtimes use since 2025 (opencontainers/cgroups pull request 20).
// A straight line gave one whole CPU a weight of 39, less than any of the machine's own services has.
func WeightOf(shares int64) int64 {
	switch {
	case shares <= minShares:
		return 1
	case shares >= maxShares:
		return 10000
	}
	l := math.Log2(float64(shares))
	return int64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// sharesOfWeight is about the shares that WeightOf made a weight from.
func sharesOfWeight(weight uint64) uint64 {
	l := (math.Sqrt(125*125+4*612*(math.Log10(float64(weight))+7.0/34)) - 125) / 2
	return min(max(uint64(math.Exp2(l)), minShares), maxShares)
}

// PageSize turns a resource's name such as "hugepages-2Mi" into the kernel's name of the page size, "2MB".
func PageSize(name v1.ResourceName) (string, bool) {
	if len(name) <= len(v1.ResourceHugePagesPrefix) || name[:len(v1.ResourceHugePagesPrefix)] != v1.ResourceHugePagesPrefix {
		return "", false
	}
	q, err := resource.ParseQuantity(string(name[len(v1.ResourceHugePagesPrefix):]))
	if err != nil || q.Value() <= 0 {
		return "", false
	}
	return pageSizeName(q.Value()), true
}

// pageSizeName is how the kernel spells a page size in the hugetlb controller's files (mm/hugetlb_cgroup.c, mem_fmt).
func pageSizeName(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%dGB", bytes>>30)
	case bytes >= 1<<20:
		return fmt.Sprintf("%dMB", bytes>>20)
	}
	return fmt.Sprintf("%dKB", bytes>>10)
}
