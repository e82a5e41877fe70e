package pod

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// QOS is a pod's quality-of-service class: BestEffort when nothing asks for cpu or memory, Guaranteed when every
// container limits both and requests just that, Burstable otherwise. Pod-level resources count before the containers'.
func QOS(p *corev1.Pod) corev1.PodQOSClass {
	if r := p.Spec.Resources; r != nil && (names(r.Requests) > 0 || names(r.Limits) > 0) {
		if guaranteed(*r) {
			return corev1.PodQOSGuaranteed
		}
		return corev1.PodQOSBurstable
	}
	best, all := true, true
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			best = best && names(c.Resources.Requests) == 0 && names(c.Resources.Limits) == 0
			all = all && guaranteed(c.Resources)
		}
	}
	switch {
	case best:
		return corev1.PodQOSBestEffort
	case all:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// names counts which of cpu and memory a list sets to more than zero.
func names(list corev1.ResourceList) int {
	n := 0
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, ok := list[name]; ok && q.Sign() > 0 {
			n++
		}
	}
	return n
}

func guaranteed(r corev1.ResourceRequirements) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit, ok := r.Limits[name]
		if !ok || limit.Sign() <= 0 {
			return false
		}
		// A request left out is defaulted to the limit.
		if request, ok := r.Requests[name]; ok && !equal(request, limit) {
			return false
		}
	}
	return true
}

func equal(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }
