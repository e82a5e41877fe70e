package shutdown

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Grace is what pods of a priority from this one on get.
type Grace struct {
	Priority int32
	Seconds  int64
}

// Group is what ends together. A pod gets the group's grace, or its own where that is shorter.
type Group struct {
	Grace
	Pods []*v1.Pod
}

// Plan puts pods into the groups in which they end, lowest priority first; a group without pods is left out. A pod belongs to the
// highest group that its priority reaches, and to the lowest where it reaches none. Graces may come in any order. PURE.
func Plan(graces []Grace, pods []*v1.Pod) []Group {
	groups := make([]Group, 0, len(graces))
	for _, g := range graces {
		groups = append(groups, Group{Grace: g})
	}
	slices.SortFunc(groups, func(a, b Group) int { return cmp.Compare(a.Priority, b.Priority) })
	if len(groups) == 0 {
		return nil
	}
	for _, p := range pods {
		priority := int32(0)
		if p.Spec.Priority != nil {
			priority = *p.Spec.Priority
		}
		at := 0
		for i := range groups {
			if groups[i].Priority <= priority {
				at = i
			}
		}
		groups[at].Pods = append(groups[at].Pods, p)
	}
	return slices.DeleteFunc(groups, func(g Group) bool { return len(g.Pods) == 0 })
}

// Total is how long all groups may take together.
func Total(graces []Grace) time.Duration {
	sum := time.Duration(0)
	for _, g := range graces {
		sum += time.Duration(g.Seconds) * time.Second
	}
	return sum
}
