package runtime

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/cgroup"
	"coracle/agent/pod"
)

// resources are the limits of the container's own group, below the pod's.
func resources(c pod.ContainerSpec, host hostFacts) *specs.LinuxResources {
	out := resized(c, host)
	if host.Unified {
		// All of a container's processes die together, as Kubernetes has it on cgroup v2.
		setUnified(out, "memory.oom.group", 1)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
		if size, ok := cgroup.PageSize(name); ok {
			q := c.Resources.Limits[name]
			out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: uint64(q.Value())})
		}
	}
	return out
}

// resized are those of the limits that may change while the container runs.
func resized(c pod.ContainerSpec, host hostFacts) *specs.LinuxResources {
	request, limit := c.Resources.Requests[v1.ResourceCPU], c.Resources.Limits[v1.ResourceCPU]
	if _, asked := c.Resources.Requests[v1.ResourceCPU]; !asked && !limit.IsZero() {
		request = limit
	}
	shares := uint64(cgroup.SharesOf(request.MilliValue()))
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}
	if !limit.IsZero() { // a limit that is there cannot be taken away by a resize
		quota, period := cgroup.QuotaOf(limit.MilliValue()), uint64(100000)
		out.CPU.Quota, out.CPU.Period = &quota, &period
	}
	memory, limited := c.Resources.Limits[v1.ResourceMemory]
	if bytes := memory.Value(); limited && bytes > 0 {
		out.Memory = &specs.LinuxMemory{Limit: &bytes}
		if host.SwapAccounting && !host.Unified { // v1 counts both together
			both := bytes + c.SwapBytes
			out.Memory.Swap = &both
		}
	}
	if !host.Unified {
		return out
	}
	if host.SwapAccounting {
		setUnified(out, "memory.swap.max", c.SwapBytes)
	}
	for file, bytes := range map[string]int64{"memory.min": c.MemoryMin, "memory.low": c.MemoryLow, "memory.high": c.MemoryHigh} {
		if bytes > 0 {
			setUnified(out, file, bytes)
		}
	}
	return out
}

// unboundTasks takes off the limit of processes that systemd gives every scope, a share of the kernel's (DefaultTasksMax):
// how many a container may have is its pod's limit to say.
func unboundTasks(spec *specs.Spec) {
	if slice, _, ok := strings.Cut(spec.Linux.CgroupsPath, ":"); ok && strings.HasSuffix(slice, ".slice") {
		spec.Annotations["org.systemd.property.TasksMax"] = "uint64 18446744073709551615"
	}
}

func setUnified(r *specs.LinuxResources, file string, value int64) {
	if r.Unified == nil {
		r.Unified = map[string]string{}
	}
	r.Unified[file] = strconv.FormatInt(value, 10)
}
