package decide

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"
)

// Resources is an amount of each: cpu in thousandths of a core, memory and storage in bytes, the rest (huge
// pages, extended resources) by name in their own unit.
type Resources struct {
	MilliCPU, Memory, Storage int64
	Pods                      int64
	Other                     map[corev1.ResourceName]int64
}

// resourcesOf reads a list. Nodes give how many pods they take in the same list.
func resourcesOf(list corev1.ResourceList) Resources {
	var r Resources
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			r.MilliCPU = q.MilliValue()
		case corev1.ResourceMemory:
			r.Memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			r.Storage = q.Value()
		case corev1.ResourcePods:
			r.Pods = q.Value()
		default:
			if r.Other == nil {
				r.Other = map[corev1.ResourceName]int64{}
			}
			r.Other[name] = q.Value()
		}
	}
	return r
}

// add adds sign times o. Entries of Other that come to nought are dropped.
func (r *Resources) add(o Resources, sign int64) {
	r.MilliCPU += sign * o.MilliCPU
	r.Memory += sign * o.Memory
	r.Storage += sign * o.Storage
	r.Pods += sign * o.Pods
	for name, n := range o.Other {
		if r.Other == nil {
			r.Other = map[corev1.ResourceName]int64{}
		}
		if r.Other[name] += sign * n; r.Other[name] == 0 {
			delete(r.Other, name)
		}
	}
}

// What a container is taken to need, for scoring only, where it does not say: else pods without requests
// would all pile up on one node.
var assumed = corev1.ResourceList{
	corev1.ResourceCPU:    *resource.NewMilliQuantity(100, resource.DecimalSI),
	corev1.ResourceMemory: *resource.NewQuantity(200<<20, resource.BinarySI),
}

// requestOf is what the pod asks for: containers, the largest need while init containers run, sidecars, overhead,
// and what was granted already where a resize is under way.
func requestOf(pod *corev1.Pod) Resources {
	r := resourcesOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{UseStatusResources: true}))
	r.Pods = 1
	return r
}

func likelyUse(pod *corev1.Pod) Resources {
	return resourcesOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{
		UseStatusResources: true, NonMissingContainerRequests: assumed,
	}))
}
