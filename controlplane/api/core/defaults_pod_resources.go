package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// podLevelResource says whether a pod-level requests or limits entry is known
// under this name.
func podLevelResource(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || isHugePage(name)
}

// defaultPodLevelRequests completes the pod-level requests of a pod that has
// pod-level resources: with the sum of its containers' requests where any
// container asks for the resource, with the pod's own limit otherwise. It runs
// after the containers have theirs.
func defaultPodLevelRequests(spec *corev1.PodSpec) {
	r := spec.Resources
	if r == nil || (len(r.Limits) == 0 && len(r.Requests) == 0) {
		return
	}
	sums := containerRequests(spec)
	// Huge pages are never overcommitted: a limit follows from what is requested.
	for name, q := range sums {
		if !isHugePage(name) {
			continue
		}
		_, hasLimit := r.Limits[name]
		_, hasRequest := r.Requests[name]
		if hasLimit || hasRequest {
			continue
		}
		if r.Limits == nil {
			r.Limits = corev1.ResourceList{}
		}
		r.Limits[name] = q.DeepCopy()
	}
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	for name, q := range sums {
		if _, ok := r.Requests[name]; !ok && podLevelResource(name) {
			// Huge pages of the pod's own limit are requested in full below.
			if isHugePage(name) {
				if limit, ok := r.Limits[name]; ok {
					q = limit
				}
			}
			r.Requests[name] = q.DeepCopy()
		}
	}
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; !ok && podLevelResource(name) {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

// containerRequests adds up what the containers of a pod need at most at one
// time: all containers and sidecars together, or one init container with the
// sidecars that started before it.
func containerRequests(spec *corev1.PodSpec) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for i := range spec.Containers {
		addList(sum, spec.Containers[i].Resources.Requests)
	}
	sidecars, initMax := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		need := corev1.ResourceList{}
		addList(need, c.Resources.Requests)
		if isSidecar(c) {
			addList(sum, c.Resources.Requests)
			addList(sidecars, c.Resources.Requests)
			need = sidecars
		} else {
			addList(need, sidecars)
		}
		maxList(initMax, need)
	}
	maxList(sum, initMax)
	return sum
}

// isSidecar says whether an init container keeps running beside the others.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func addList(sum, more corev1.ResourceList) {
	for name, q := range more {
		total := resource.Quantity{}
		if old, ok := sum[name]; ok {
			total = old.DeepCopy()
			total.Add(q)
		} else {
			total = q.DeepCopy()
		}
		sum[name] = total
	}
}

func maxList(list, other corev1.ResourceList) {
	for name, q := range other {
		if old, ok := list[name]; !ok || q.Cmp(old) > 0 {
			list[name] = q.DeepCopy()
		}
	}
}
