package cgroup

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
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
}

// LimitsOf computes the limits of a pod's group: what its containers ask for together, and what
// they may use together where each of them is limited.
func LimitsOf(pod *v1.Pod) Limits {
	requests, limits := podResources(pod)
	out := Limits{Shares: SharesOf(requests.Cpu().MilliValue()), Period: quotaPeriod}
	if cpu, ok := limits[v1.ResourceCPU]; ok && !cpu.IsZero() {
		out.Quota = QuotaOf(cpu.MilliValue())
	}
	if memory, ok := limits[v1.ResourceMemory]; ok {
		out.Memory = memory.Value()
	}
	return out
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

// WeightOf turns cpu.shares [2, 262144] into cgroup v2's cpu.weight [1, 10000].
func WeightOf(shares int64) int64 {
	shares = min(max(shares, minShares), maxShares)
	return 1 + (shares-2)*9999/262142
}

// podResources adds up requests and limits. A limit is only there when every container that
// runs beside the others has it; init containers run before, sidecars with the rest.
func podResources(pod *v1.Pod) (requests, limits v1.ResourceList) {
	requests, limits = v1.ResourceList{}, v1.ResourceList{}
	unlimited := map[v1.ResourceName]bool{}
	sidecarRequests, sidecarLimits := v1.ResourceList{}, v1.ResourceList{}
	initRequests, initLimits := v1.ResourceList{}, v1.ResourceList{}
	note := func(c v1.Container) {
		for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
			if q, ok := c.Resources.Limits[name]; !ok || q.IsZero() {
				unlimited[name] = true
			}
		}
	}
	for _, c := range pod.Spec.InitContainers {
		note(c)
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			add(sidecarRequests, c.Resources.Requests)
			add(sidecarLimits, c.Resources.Limits)
			continue
		}
		raise(initRequests, plus(sidecarRequests, c.Resources.Requests))
		raise(initLimits, plus(sidecarLimits, c.Resources.Limits))
	}
	for _, c := range pod.Spec.Containers {
		note(c)
		add(requests, c.Resources.Requests)
		add(limits, c.Resources.Limits)
	}
	add(requests, sidecarRequests)
	add(limits, sidecarLimits)
	raise(requests, initRequests)
	raise(limits, initLimits)
	for name := range unlimited {
		delete(limits, name)
	}
	if r := pod.Spec.Resources; r != nil { // pod-level resources decide where they are given
		overwrite(requests, r.Requests)
		overwrite(limits, r.Limits)
	}
	add(requests, pod.Spec.Overhead)
	for name, q := range pod.Spec.Overhead {
		if have, ok := limits[name]; ok {
			have.Add(q)
			limits[name] = have
		}
	}
	return requests, limits
}

func add(to, from v1.ResourceList) {
	for name, q := range from {
		have := to[name]
		have.Add(q)
		to[name] = have
	}
}

func plus(a, b v1.ResourceList) v1.ResourceList {
	out := v1.ResourceList{}
	add(out, a)
	add(out, b)
	return out
}

func raise(to, from v1.ResourceList) {
	for name, q := range from {
		if have, ok := to[name]; !ok || have.Cmp(q) < 0 {
			to[name] = q
		}
	}
}

func overwrite(to, from v1.ResourceList) {
	for name, q := range from {
		to[name] = q
	}
}

// QOSOf is the pod's quality of service class, computed from the spec as Kubernetes documents it.
func QOSOf(pod *v1.Pod) v1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	all := append(append([]v1.Container(nil), pod.Spec.InitContainers...), pod.Spec.Containers...)
	sets := make([]v1.ResourceRequirements, 0, len(all))
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		sets = append(sets, *r)
	} else {
		for _, c := range all {
			sets = append(sets, c.Resources)
		}
	}
	any, guaranteed := false, true
	for _, set := range sets {
		for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
			request, limit := set.Requests[name], set.Limits[name]
			any = any || !request.IsZero() || !limit.IsZero()
			if limit.IsZero() || !equalOrUnset(request, limit) {
				guaranteed = false
			}
		}
	}
	switch {
	case !any:
		return v1.PodQOSBestEffort
	case guaranteed:
		return v1.PodQOSGuaranteed
	}
	return v1.PodQOSBurstable
}

func equalOrUnset(request, limit resource.Quantity) bool {
	return request.IsZero() || request.Cmp(limit) == 0
}

// class is the directory of a quality of service class below the root group; guaranteed pods
// have none of their own.
func class(qos v1.PodQOSClass) string {
	switch qos {
	case v1.PodQOSBurstable:
		return "burstable"
	case v1.PodQOSBestEffort:
		return "besteffort"
	}
	return ""
}

// classes are all of them, for looking through.
var classes = []string{"", "burstable", "besteffort"}

const podPrefix = "pod"

// groupName is the directory of a pod's group in its class; uids are used as they are, and must be usable.
func groupName(uid types.UID) (string, error) {
	if uid == "" || strings.ContainsAny(string(uid), "/\x00\n") || strings.HasPrefix(string(uid), ".") {
		return "", fmt.Errorf("pod uid %q cannot name a cgroup", uid)
	}
	return podPrefix + string(uid), nil
}
