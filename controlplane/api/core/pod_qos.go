package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// qosResources are the resources that decide the quality of service.
var qosResources = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}

// PodQOS returns the quality of service class that a pod's requests and limits
// give it: Guaranteed where every container's limits of CPU and memory equal its
// requests, BestEffort where there are none at all, Burstable otherwise. Resources
// of the pod as a whole decide alone where they are set.
func PodQOS(p *corev1.Pod) corev1.PodQOSClass {
	if r := p.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		return qosOf([]corev1.ResourceRequirements{*r})
	}
	var all []corev1.ResourceRequirements
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			all = append(all, list[i].Resources)
		}
	}
	return qosOf(all)
}

func qosOf(all []corev1.ResourceRequirements) corev1.PodQOSClass {
	any, guaranteed := false, true
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for _, r := range all {
		for _, name := range qosResources {
			if q, ok := r.Requests[name]; ok && !q.IsZero() {
				any = true
				addList(requests, corev1.ResourceList{name: q})
			}
			q, ok := r.Limits[name]
			if !ok || q.IsZero() {
				guaranteed = false
				continue
			}
			any = true
			addList(limits, corev1.ResourceList{name: q})
		}
	}
	if !any {
		return corev1.PodQOSBestEffort
	}
	for name, q := range requests {
		if limit, ok := limits[name]; !ok || limit.Cmp(q) != 0 {
			guaranteed = false
		}
	}
	if guaranteed && len(requests) == len(limits) {
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// equalList compares two lists by value, so that "1" equals "1000m".
func equalList(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		other, ok := b[name]
		if !ok || q.Cmp(other) != 0 {
			return false
		}
	}
	return true
}

// without returns a list without the named resources.
func without(list corev1.ResourceList, drop ...corev1.ResourceName) corev1.ResourceList {
	out := make(map[corev1.ResourceName]resource.Quantity, len(list))
	for name, q := range list {
		out[name] = q
	}
	for _, name := range drop {
		delete(out, name)
	}
	return out
}
