package runtime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/cgroup"
	"coracle/agent/pod"
)

// resources are the limits of the container's own group, below the pod's.
func resources(c pod.ContainerSpec, host hostFacts) *specs.LinuxResources {
	request, limit := c.Resources.Requests[v1.ResourceCPU], c.Resources.Limits[v1.ResourceCPU]
	if request.IsZero() && !limit.IsZero() {
		request = limit
	}
	shares := uint64(cgroup.SharesOf(request.MilliValue()))
	out := &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}
	if !limit.IsZero() {
		quota, period := cgroup.QuotaOf(limit.MilliValue()), uint64(100000)
		out.CPU.Quota, out.CPU.Period = &quota, &period
	}
	if memory, ok := c.Resources.Limits[v1.ResourceMemory]; ok && !memory.IsZero() {
		bytes := memory.Value()
		out.Memory = &specs.LinuxMemory{Limit: &bytes}
		if host.SwapAccounting {
			out.Memory.Swap = &bytes // as much with swap as without: none
		}
	}
	if host.Unified {
		// All of a container's processes die together, as Kubernetes has it on cgroup v2.
		out.Unified = map[string]string{"memory.oom.group": "1"}
	}
	var names []string
	for name := range c.Resources.Limits {
		if strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	for _, name := range names {
		q := c.Resources.Limits[v1.ResourceName(name)]
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: pageSize(name), Limit: uint64(q.Value())})
	}
	return out
}

// pageSize turns "hugepages-2Mi" into the kernel's "2MB".
func pageSize(resource string) string {
	size := strings.TrimPrefix(resource, v1.ResourceHugePagesPrefix)
	number := strings.TrimRight(size, "KMGi")
	unit := strings.TrimSuffix(size[len(number):], "i")
	return fmt.Sprintf("%s%sB", number, unit)
}
