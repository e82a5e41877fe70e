package pod

import v1 "k8s.io/api/core/v1"

// Resources adds up what a pod asks for and what it may use, its overhead included. A limit of CPU or memory is only there
// when every container has it; init containers run before the others, sidecars beside them. The lists are the caller's.
func Resources(pod *v1.Pod) (requests, limits v1.ResourceList) {
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
