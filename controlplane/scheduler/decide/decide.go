// Package decide chooses a node for a pod. It is pure: plain values in, a decision out, the same for the same
// values in any order.
//
// A pod is filtered against every node; the nodes that pass are scored; the best wins, equals being told apart
// by a hash of pod and node, so that pods of one kind do not all try the same node first. Where no node
// passes, the decision says how many failed for which reason and which changes could help.
package decide

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Cluster is what there is to choose from. Nodes have objects; their order does not matter.
type Cluster struct {
	Nodes []*Node
	// Namespaces gives the labels of each namespace, for affinity terms that select by them.
	Namespaces map[string]map[string]string
}

// query is one decision in the making, with what several nodes share worked out at first need.
type query struct {
	pod      *Pod
	cluster  *Cluster
	affinity *affinityState
	spread   []spreadState
}

// Decision is the outcome for one pod.
type Decision struct {
	Node     string // chosen; empty: none passes
	Feasible int    // nodes that passed
	// Total, Reasons and Wake explain an empty Node: how many nodes failed for each reason, of how many, and
	// what may help.
	Total   int
	Reasons map[string]int
	Wake    Wake
}

// Decide chooses for one pod. It changes nothing.
func Decide(pod *Pod, cluster *Cluster) Decision {
	q := &query{pod: pod, cluster: cluster}
	d := Decision{Total: len(cluster.Nodes), Reasons: map[string]int{}, Wake: Nodes}
	var feasible []*Node
	for _, n := range cluster.Nodes {
		reasons, wake := q.failing(n)
		if len(reasons) == 0 {
			feasible = append(feasible, n)
			continue
		}
		d.Wake |= wake
		for _, r := range reasons {
			d.Reasons[r]++
		}
	}
	if d.Feasible = len(feasible); d.Feasible > 0 {
		d.Node = q.best(feasible)
	}
	return d
}

// Fits is true where the pod could be placed on that node.
func Fits(pod *Pod, node *Node, cluster *Cluster) bool {
	reasons, _ := (&query{pod: pod, cluster: cluster}).failing(node)
	return len(reasons) == 0
}

func (q *query) failing(n *Node) ([]string, Wake) {
	for _, f := range filters {
		if reasons := f.check(q, n); len(reasons) > 0 {
			return reasons, f.wake
		}
	}
	return nil, 0
}

func (q *query) best(nodes []*Node) string {
	if len(nodes) == 1 {
		return nodes[0].Object.Name
	}
	totals := make([]float64, len(nodes))
	for _, s := range scorers {
		for i, v := range s.rate(q, nodes) {
			totals[i] += s.weight * v
		}
	}
	best, bestTie := 0, tie(q.pod.Pod, nodes[0])
	for i := 1; i < len(nodes); i++ {
		// Sums of floats differ in the last place by the order of pods; what close is equal.
		switch diff := totals[i] - totals[best]; {
		case diff > 1e-6:
			best, bestTie = i, tie(q.pod.Pod, nodes[i])
		case diff > -1e-6:
			if t := tie(q.pod.Pod, nodes[i]); cmp.Or(cmp.Compare(t, bestTie), cmp.Compare(nodes[i].Object.Name, nodes[best].Object.Name)) < 0 {
				best, bestTie = i, t
			}
		}
	}
	return nodes[best].Object.Name
}

func tie(pod *corev1.Pod, n *Node) uint64 {
	h := fnv.New64a()
	h.Write([]byte(pod.UID))
	h.Write([]byte{0})
	h.Write([]byte(n.Object.Name))
	return h.Sum64()
}

// Explain is what the PodScheduled condition and the event say of a decision without a node.
func (d Decision) Explain() string {
	if d.Total == 0 {
		return "no nodes available to schedule pods"
	}
	parts := make([]string, 0, len(d.Reasons))
	for reason, n := range d.Reasons {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", d.Total, strings.Join(parts, ", "))
}

// Gated is true for a pod that must not be scheduled yet.
func Gated(pod *corev1.Pod) bool { return len(pod.Spec.SchedulingGates) > 0 }
