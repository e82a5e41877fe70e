package evict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
)

// Use is how much one pod uses of the resource that is short.
type Use struct {
	Pod        *v1.Pod
	Total      int64            // by which pods are compared, as Kubernetes does
	Frees      int64            // what its end would surely free
	Containers map[string]int64 // of Total by container, where that can be told; nil: not told
}

// worth is the least that a pod's end must free. What every container has by being there (a few pages, an empty layer, the
// folder of its log) helps nobody.
func worth(r v1.ResourceName) int64 {
	switch r {
	case v1.ResourceMemory, v1.ResourceEphemeralStorage:
		return 1 << 20
	case resourceInodes:
		return 32
	}
	return 1
}

// Rank puts those pods into order whose end may help, the first to go first. For memory and disk: those that use more than
// they asked for, then lower priority, then by how much more they use than they asked for. For process ids: lower
// priority, then more processes.
//
// Differs: a kubelet lists pods that use nothing, and puts first those of which it does not know.
func Rank(r v1.ResourceName, uses []Use) []Use {
	out := slices.DeleteFunc(slices.Clone(uses), func(u Use) bool {
		return u.Frees < worth(r) || pod.Critical(u.Pod) || u.Pod.DeletionTimestamp != nil
	})
	slices.SortFunc(out, func(a, b Use) int {
		byPriority := cmp.Compare(priority(a.Pod), priority(b.Pod))
		if r == resourcePids {
			return cmp.Or(byPriority, cmp.Compare(b.Total, a.Total), cmp.Compare(a.Pod.UID, b.Pod.UID))
		}
		overA, overB := a.Total-request(a.Pod, r), b.Total-request(b.Pod, r)
		return cmp.Or(-compareBool(overA > 0, overB > 0), byPriority, cmp.Compare(overB, overA), cmp.Compare(a.Pod.UID, b.Pod.UID))
	})
	return out
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func priority(p *v1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

func request(p *v1.Pod, r v1.ResourceName) int64 {
	requests, _ := pod.Resources(p)
	q := requests[r]
	return q.Value()
}

// hardGrace is the grace of a pod that goes because of a hard limit, in seconds.
const hardGrace = 1

// End is the end of a pod that was chosen, in Kubernetes' words.
func End(t Threshold, l Levels, u Use, s Settings) pod.Failed {
	grace := int64(hardGrace)
	if t.Soft {
		grace = s.MaxGrace
	}
	return pod.Failed{Reason: reasonEvicted, Message: message(t, l, u), Disruption: v1.PodReasonTerminationByKubelet, GraceSeconds: &grace}
}

const reasonEvicted = "Evicted"

func message(t Threshold, l Levels, u Use) string {
	r := t.Signal.Resource()
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %s. ", r)
	if level, ok := l[t.Signal]; ok {
		fmt.Fprintf(&b, "Threshold quantity: %s, available: %s. ", quantity(r, t.Limit.of(level.Capacity)), quantity(r, level.Available))
	}
	if r != v1.ResourceMemory && r != v1.ResourceEphemeralStorage {
		return b.String()
	}
	for _, c := range append(slices.Clone(u.Pod.Spec.InitContainers), u.Pod.Spec.Containers...) {
		used, told := u.Containers[c.Name]
		asked := c.Resources.Requests[r]
		if told && used > asked.Value() {
			fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, quantity(r, used), asked.String(), r)
		}
	}
	return b.String()
}
