package pod

import (
	v1 "k8s.io/api/core/v1"
)

// MemoryPolicy is how the node treats containers' memory beyond their limits. The zero value is Kubernetes' default: no
// swap, no throttling, no reservation.
type MemoryPolicy struct {
	// Throttling slows a container down from this share of its room on, which lies between what it asked for and its
	// limit (or, without one, the node's allocatable memory); 0: never. cgroup v2 alone has it.
	Throttling float64
	// Reserve keeps what containers ask for from being reclaimed. cgroup v2 alone has it.
	Reserve bool
	// SwapBytes of the machine are shared out to burstable pods' containers; 0: nobody swaps.
	SwapBytes int64
}

// memoryPage is what limits are rounded down to.
const memoryPage = 4096

// applyMemory sets what the policy gives a container (KEP-2570 and KEP-2400).
func (p MemoryPolicy) applyMemory(spec *ContainerSpec, pod *v1.Pod, src Sources) {
	if p == (MemoryPolicy{}) {
		return
	}
	qos := QOSClass(pod)
	asked := spec.Resources.Requests.Memory().Value()
	limit := spec.Resources.Limits.Memory().Value()
	if p.Reserve {
		switch qos {
		case v1.PodQOSGuaranteed:
			spec.MemoryMin = asked
		case v1.PodQOSBurstable:
			spec.MemoryLow = asked
		}
	}
	if p.Throttling > 0 && qos != v1.PodQOSGuaranteed {
		room := limit
		if room == 0 {
			room = src.Allocatable.Memory().Value()
		}
		high := (asked + int64(p.Throttling*float64(room-asked))) / memoryPage * memoryPage
		if high > asked && (limit == 0 || high < limit) {
			spec.MemoryHigh = high
		}
	}
	// Guaranteed and best-effort pods do not swap, nor do containers whose limit is what they asked for, nor critical pods.
	if qos == v1.PodQOSBurstable && !spec.SystemCritical && asked > 0 && asked != limit && src.MemoryBytes > 0 {
		spec.SwapBytes = int64(float64(asked) / float64(src.MemoryBytes) * float64(p.SwapBytes))
	}
}
