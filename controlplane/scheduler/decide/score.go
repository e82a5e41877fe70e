package decide

import (
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// full is the best score of one scorer; each gives every feasible node 0 to full.
const full = 100.0

// scorer rates feasible nodes, all at once so that it can compare them.
type scorer struct {
	weight float64
	rate   func(q *query, nodes []*Node) []float64
}

var scorers = []scorer{
	{3, preferNoTaint},
	{2, preferredAffinity},
	{2, spreadScore},
	{2, podAffinityScore},
	{1, leastAllocated},
	{1, balanced},
	{1, imageLocality},
}

// each rates nodes one by one.
func each(f func(q *query, n *Node) float64) func(*query, []*Node) []float64 {
	return func(q *query, nodes []*Node) []float64 {
		out := make([]float64, len(nodes))
		for i, n := range nodes {
			out[i] = f(q, n)
		}
		return out
	}
}

// stretch maps the least of raw to 0 and the greatest to full; all equal: all 0.
func stretch(raw []float64, reverse bool) []float64 {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range raw {
		low, high = min(low, v), max(high, v)
	}
	for i, v := range raw {
		switch {
		case high == low:
			raw[i] = 0
		case reverse:
			raw[i] = full * (high - v) / (high - low)
		default:
			raw[i] = full * (v - low) / (high - low)
		}
	}
	return raw
}

func preferNoTaint(q *query, nodes []*Node) []float64 {
	return stretch(each(func(q *query, n *Node) (count float64) {
		for i := range n.Object.Spec.Taints {
			if t := &n.Object.Spec.Taints[i]; t.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(q.pod, t) {
				count++
			}
		}
		return count
	})(q, nodes), true)
}

func preferredAffinity(q *query, nodes []*Node) []float64 {
	return stretch(each(func(q *query, n *Node) float64 {
		if q.pod.preferred == nil {
			return 0
		}
		return float64(q.pod.preferred.Score(n.Object))
	})(q, nodes), false)
}

// fractions of cpu and memory that would be in use with the pod; 1 where the node has none.
func fractions(q *query, n *Node) (cpu, memory float64) {
	part := func(used, has int64) float64 {
		if has <= 0 {
			return 1
		}
		return min(1, float64(used)/float64(has))
	}
	return part(n.likely.MilliCPU+q.pod.likely.MilliCPU, n.allocatable.MilliCPU),
		part(n.likely.Memory+q.pod.likely.Memory, n.allocatable.Memory)
}

func leastAllocated(q *query, nodes []*Node) []float64 {
	return each(func(q *query, n *Node) float64 {
		cpu, memory := fractions(q, n)
		return full * (1 - (cpu+memory)/2)
	})(q, nodes)
}

// balanced prefers nodes whose cpu and memory run out together.
func balanced(q *query, nodes []*Node) []float64 {
	return each(func(q *query, n *Node) float64 {
		cpu, memory := fractions(q, n)
		return full * (1 - math.Abs(cpu-memory)/2)
	})(q, nodes)
}

// imageLocality counts bytes that need not be pulled, between a size that does not matter and one above which
// more does not matter either. An image that only one node of many has counts little, or that node would get all.
func imageLocality(q *query, nodes []*Node) []float64 {
	const floor, ceiling = 23 << 20, 1000 << 20
	holders := map[string]float64{}
	for _, image := range q.pod.images {
		for _, n := range nodes {
			if _, ok := sizeOf(n, image); ok {
				holders[image]++
			}
		}
	}
	return each(func(q *query, n *Node) float64 {
		var sum float64
		for _, image := range q.pod.images {
			if size, ok := sizeOf(n, image); ok {
				sum += float64(size) * holders[image] / float64(len(nodes))
			}
		}
		top := float64(ceiling * max(1, len(q.pod.images)))
		return full * (min(max(sum, floor), top) - floor) / (top - floor)
	})(q, nodes)
}

func sizeOf(n *Node, image string) (int64, bool) {
	if size, ok := n.images[image]; ok {
		return size, true
	}
	if last := image[strings.LastIndex(image, "/")+1:]; !strings.ContainsAny(last, ":@") {
		size, ok := n.images[image+":latest"]
		return size, ok
	}
	return 0, false
}

// spreadScore spreads by the pod's own soft constraints or, where it has none, its controller's pods over nodes
// and zones.
func spreadScore(q *query, nodes []*Node) []float64 {
	if len(q.pod.softSpread) > 0 {
		return softSpreadScore(q, nodes)
	}
	if q.pod.controller == "" {
		return make([]float64, len(nodes))
	}
	return controllerSpread(q.pod.controller, nodes)
}

// softSpreadScore compares the nodes that have every label spread over; the others score nothing.
func softSpreadScore(q *query, nodes []*Node) []float64 {
	out := make([]float64, len(nodes))
	raw := make([]float64, 0, len(nodes))
	var at []int
	for j, n := range nodes {
		if !slices.ContainsFunc(q.pod.softSpread, func(c constraint) bool { _, ok := n.Object.Labels[c.key]; return !ok }) {
			at, raw = append(at, j), append(raw, 0)
		}
	}
	for i := range q.pod.softSpread {
		c := &q.pod.softSpread[i]
		s := q.spreadState(c, q.pod.softSpread)
		weight := math.Log(float64(len(s.counts) + 2)) // many small domains weigh more than few large ones
		for k, j := range at {
			raw[k] += float64(s.counts[nodes[j].Object.Labels[c.key]])*weight + float64(c.maxSkew-1)
		}
	}
	if len(raw) > 0 && slices.Max(raw) == slices.Min(raw) {
		for k := range raw {
			raw[k] = full // none is worse than another, all are better than those outside
		}
	} else {
		stretch(raw, true)
	}
	for k, j := range at {
		out[j] = raw[k]
	}
	return out
}

// controllerSpread weighs zones twice as much as nodes where nodes have zones.
func controllerSpread(controller types.UID, nodes []*Node) []float64 {
	zones := map[string]float64{}
	var mostNode, mostZone float64
	for _, n := range nodes {
		count := float64(n.byOwner[controller])
		mostNode = max(mostNode, count)
		if zone := n.Object.Labels[corev1.LabelTopologyZone]; zone != "" {
			zones[zone] += count
			mostZone = max(mostZone, zones[zone])
		}
	}
	out := make([]float64, len(nodes))
	for i, n := range nodes {
		score := full
		if mostNode > 0 {
			score = full * (mostNode - float64(n.byOwner[controller])) / mostNode
		}
		if zone := n.Object.Labels[corev1.LabelTopologyZone]; zone != "" && mostZone > 0 {
			score = score/3 + 2*full/3*(mostZone-zones[zone])/mostZone
		}
		out[i] = score
	}
	return out
}

// podAffinityScore adds up preferred terms, the pod's own and, the other way round, those of pods in place;
// required affinity of pods in place counts a little too, since they would rather have company.
func podAffinityScore(q *query, nodes []*Node) []float64 {
	sums := map[domain]float64{}
	add := func(n *Node, terms []term, subject *corev1.Pod, sign, fixed float64) {
		for i := range terms {
			t := &terms[i]
			if value, ok := n.Object.Labels[t.key]; ok && t.matches(subject, q.cluster.Namespaces) {
				weight := float64(t.weight)
				if fixed != 0 {
					weight = fixed
				}
				sums[domain{t.key, value}] += sign * weight
			}
		}
	}
	own := len(q.pod.softAffinity)+len(q.pod.softAntiAffinity) > 0
	for _, n := range q.cluster.Nodes {
		if own {
			for _, other := range n.pods {
				add(n, q.pod.softAffinity, other.Pod, 1, 0)
				add(n, q.pod.softAntiAffinity, other.Pod, -1, 0)
			}
		}
		for _, other := range n.withTerms {
			add(n, other.softAffinity, q.pod.Pod, 1, 0)
			add(n, other.softAntiAffinity, q.pod.Pod, -1, 0)
			add(n, other.affinity, q.pod.Pod, 1, 1)
		}
	}
	return stretch(each(func(_ *query, n *Node) (sum float64) {
		for d, v := range sums {
			if value, ok := n.Object.Labels[d.key]; ok && value == d.value {
				sum += v
			}
		}
		return sum
	})(q, nodes), false)
}
