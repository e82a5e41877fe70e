package pod

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// preempt chooses the pods that end so that a critical one fits: guaranteed and burstable pods
// are spared as far as ending those of lower classes suffices; within a class few pods rather
// than many, and small ones rather than large. ok is false where no choice suffices.
func (o *Occupancy) preempt(p *v1.Pod, short []shortage) (victims []*v1.Pod, ok bool) {
	needs := map[v1.ResourceName]int64{}
	for _, s := range short {
		needs[s.name] = s.lacking()
	}
	byClass := map[v1.PodQOSClass][]tenant{}
	var all []tenant
	for _, t := range o.tenants {
		if mayPreempt(p, t.pod) {
			class := QOSClass(t.pod)
			byClass[class] = append(byClass[class], t)
			all = append(all, t)
		}
	}
	if len(remaining(needs, all)) > 0 {
		return nil, false
	}
	best, burst, sure := byClass[v1.PodQOSBestEffort], byClass[v1.PodQOSBurstable], byClass[v1.PodQOSGuaranteed]
	fromSure := nearest(sure, remaining(needs, slices.Concat(best, burst)))
	fromBurst := nearest(burst, remaining(needs, slices.Concat(best, fromSure)))
	fromBest := nearest(best, remaining(needs, slices.Concat(fromBurst, fromSure)))
	for _, t := range slices.Concat(fromBest, fromBurst, fromSure) {
		victims = append(victims, t.pod)
	}
	return victims, true
}

// mayPreempt says whether one pod may be ended for another: not a critical one for one of no higher priority.
func mayPreempt(p, other *v1.Pod) bool {
	if Critical(p) && !Critical(other) {
		return true
	}
	return p.Spec.Priority != nil && other.Spec.Priority != nil && *p.Spec.Priority > *other.Spec.Priority
}

// remaining is what is still needed when these pods are gone.
func remaining(needs map[v1.ResourceName]int64, gone []tenant) map[v1.ResourceName]int64 {
	out := map[v1.ResourceName]int64{}
	for name, n := range needs {
		for _, t := range gone {
			n -= t.requests[name]
		}
		if n > 0 {
			out[name] = n
		}
	}
	return out
}

// nearest takes pods one by one, each time that which leaves least to be freed, until nothing is needed.
func nearest(from []tenant, needs map[v1.ResourceName]int64) []tenant {
	from = slices.Clone(from)
	var out []tenant
	for len(needs) > 0 && len(from) > 0 {
		slices.SortFunc(from, func(a, b tenant) int {
			return cmp.Or(
				cmp.Compare(distance(a, needs), distance(b, needs)),
				cmp.Compare(a.requests[v1.ResourceMemory], b.requests[v1.ResourceMemory]),
				cmp.Compare(a.requests[v1.ResourceCPU], b.requests[v1.ResourceCPU]),
				cmp.Compare(a.pod.UID, b.pod.UID),
			)
		})
		out = append(out, from[0])
		needs = remaining(needs, from[:1])
		from = from[1:]
	}
	return out
}

// distance is how far a pod's end leaves us from what is needed, each resource weighing the same.
func distance(t tenant, needs map[v1.ResourceName]int64) float64 {
	sum := 0.0
	for name, n := range needs {
		if left := float64(n - t.requests[name]); left > 0 {
			sum += left / float64(n) * (left / float64(n))
		}
	}
	return sum
}
