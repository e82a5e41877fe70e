// Package podgc deletes the pods that nobody else will: those of nodes that are gone, those that were deleted
// before they got a node, and the oldest finished ones where too many are kept.
package podgc

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"coracle/controlplane/controller/podview"
)

const (
	// Threshold is how many finished pods a cluster keeps.
	Threshold = 12500
	// quarantine is how long a node must be gone before its pods are taken for orphans: it may come back at once,
	// as when it is registered anew.
	quarantine = 40 * time.Second
)

// Input is all pods, the names of the nodes that exist, and since when each node that pods name has been seen to
// be missing.
type Input struct {
	Pods    []*corev1.Pod
	Nodes   map[string]bool
	Missing map[string]time.Time
	Now     time.Time
}

// Doomed is a pod to delete at once, and why.
type Doomed struct {
	Pod *corev1.Pod
	// Orphan: its node is gone, so it is marked failed first; whoever counts failures must see it.
	Orphan bool
}

// Plan is what to delete and the new memory of missing nodes.
type Plan struct {
	Delete []Doomed
	// Suspects are nodes missing for long enough by the cache. Each must be looked up before its pods are deleted.
	Suspects []string
	Missing  map[string]time.Time
	Again    time.Duration // until a missing node's time is over; zero: none is missing
}

// MakePlan decides.
func MakePlan(in Input) Plan {
	p := Plan{Missing: map[string]time.Time{}}
	var finished []*corev1.Pod
	suspect := map[string]bool{}
	for _, pod := range in.Pods {
		node := pod.Spec.NodeName
		switch {
		case node == "" && pod.DeletionTimestamp != nil && !held(pod):
			p.Delete = append(p.Delete, Doomed{Pod: pod})
		case node != "" && !in.Nodes[node]:
			since, ok := in.Missing[node]
			if !ok {
				since = in.Now
			}
			p.Missing[node] = since
			if held(pod) {
				continue
			}
			if left := since.Add(quarantine).Sub(in.Now); left > 0 {
				p.Again = min(left, cmp.Or(p.Again, left))
				continue
			}
			suspect[node] = true
			p.Delete = append(p.Delete, Doomed{Pod: pod, Orphan: true})
		case podview.Finished(pod) && pod.DeletionTimestamp == nil:
			finished = append(finished, pod)
		}
	}
	slices.SortFunc(finished, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, pod := range finished[:max(0, len(finished)-Threshold)] {
		p.Delete = append(p.Delete, Doomed{Pod: pod})
	}
	for node := range suspect {
		p.Suspects = append(p.Suspects, node)
	}
	slices.Sort(p.Suspects)
	slices.SortFunc(p.Delete, func(a, b Doomed) int {
		return cmp.Or(cmp.Compare(a.Pod.Namespace, b.Pod.Namespace), cmp.Compare(a.Pod.Name, b.Pod.Name))
	})
	return p
}

// held is true for a pod whose deletion only awaits finalizers: deleting it once more changes nothing.
func held(pod *corev1.Pod) bool {
	return len(pod.Finalizers) > 0 && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0
}
