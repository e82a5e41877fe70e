package decide

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// domain is one value of one topology label.
type domain struct{ key, value string }

// affinityState is what the pods in place mean for the pod to be placed, by domain.
type affinityState struct {
	forbidden map[domain]bool // by anti-affinity of pods in place
	together  map[domain]int  // pods that match every required affinity term
	apart     map[domain]bool // pods that match one of the pod's own anti-affinity terms
	selfMatch bool            // the pod matches its own affinity terms
}

func (q *query) affinityState() *affinityState {
	s := &affinityState{forbidden: map[domain]bool{}, together: map[domain]int{}, apart: map[domain]bool{}}
	for _, n := range q.cluster.Nodes {
		for _, other := range n.withAnti {
			for i := range other.antiAffinity {
				t := &other.antiAffinity[i]
				if value, ok := n.Object.Labels[t.key]; ok && t.matches(q.pod.Pod, q.cluster.Namespaces) {
					s.forbidden[domain{t.key, value}] = true
				}
			}
		}
	}
	if len(q.pod.affinity)+len(q.pod.antiAffinity) == 0 {
		return s
	}
	s.selfMatch = q.matchesAll(q.pod.Pod)
	for _, n := range q.cluster.Nodes {
		for _, other := range n.pods {
			if len(q.pod.affinity) > 0 && q.matchesAll(other.Pod) {
				for i := range q.pod.affinity {
					if value, ok := n.Object.Labels[q.pod.affinity[i].key]; ok {
						s.together[domain{q.pod.affinity[i].key, value}]++
					}
				}
			}
			for i := range q.pod.antiAffinity {
				t := &q.pod.antiAffinity[i]
				if value, ok := n.Object.Labels[t.key]; ok && t.matches(other.Pod, q.cluster.Namespaces) {
					s.apart[domain{t.key, value}] = true
				}
			}
		}
	}
	return s
}

func (q *query) matchesAll(other *corev1.Pod) bool {
	for i := range q.pod.affinity {
		if !q.pod.affinity[i].matches(other, q.cluster.Namespaces) {
			return false
		}
	}
	return true
}

func podAffinity(q *query, n *Node) []string {
	if q.affinity == nil {
		q.affinity = q.affinityState()
	}
	s := q.affinity
	alone := len(s.together) == 0 && s.selfMatch // the first of a group that wants to be together
	for i := range q.pod.affinity {
		value, ok := n.Object.Labels[q.pod.affinity[i].key]
		if !ok || (!alone && s.together[domain{q.pod.affinity[i].key, value}] == 0) {
			return one(reasonAffinity)
		}
	}
	for i := range q.pod.antiAffinity {
		if value, ok := n.Object.Labels[q.pod.antiAffinity[i].key]; ok && s.apart[domain{q.pod.antiAffinity[i].key, value}] {
			return one(reasonAntiAffinity)
		}
	}
	for d := range s.forbidden {
		if value, ok := n.Object.Labels[d.key]; ok && value == d.value {
			return one(reasonExistingAnti)
		}
	}
	return nil
}

// spreadState is, for one constraint, how many pods that it counts are in each domain that it counts.
type spreadState struct {
	counts map[string]int32
	least  int32
	self   int32 // 1 where the pod counts itself
}

func (q *query) spreadState(c *constraint, all []constraint) spreadState {
	s := spreadState{counts: map[string]int32{}}
	if c.selector.Matches(labels.Set(q.pod.Labels)) {
		s.self = 1
	}
	for _, n := range q.cluster.Nodes {
		if !q.counts(c, all, n) {
			continue
		}
		value := n.Object.Labels[c.key]
		s.counts[value] += q.matching(c, n)
	}
	first := true
	for _, count := range s.counts {
		if first || count < s.least {
			s.least, first = count, false
		}
	}
	if int32(len(s.counts)) < c.minDomains {
		s.least = 0
	}
	return s
}

// counts is true where a node's domain takes part: it has the labels of all constraints and, as the policies
// say, is one that the pod could run on.
func (q *query) counts(c *constraint, all []constraint, n *Node) bool {
	for i := range all {
		if _, ok := n.Object.Labels[all[i].key]; !ok {
			return false
		}
	}
	if c.honorAffinity && affinity(q, n) != nil {
		return false
	}
	return !c.honorTaints || untolerated(q.pod, n) == nil
}

func (q *query) matching(c *constraint, n *Node) (count int32) {
	for _, p := range n.pods {
		if p.Namespace == q.pod.Namespace && p.DeletionTimestamp == nil && c.selector.Matches(labels.Set(p.Labels)) {
			count++
		}
	}
	return count
}

func spreads(q *query, n *Node) []string {
	if len(q.pod.hardSpread) == 0 {
		return nil
	}
	if q.spread == nil {
		for i := range q.pod.hardSpread {
			q.spread = append(q.spread, q.spreadState(&q.pod.hardSpread[i], q.pod.hardSpread))
		}
	}
	for i := range q.pod.hardSpread {
		c, s := &q.pod.hardSpread[i], &q.spread[i]
		value, ok := n.Object.Labels[c.key]
		if !ok {
			return one(reasonSpreadLabel)
		}
		if s.counts[value]+s.self-s.least > c.maxSkew {
			return one(reasonSpread)
		}
	}
	return nil
}
