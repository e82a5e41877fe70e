// Package nodelifecycle tells which nodes are alive, keeps the taints that follow from their conditions, and evicts
// pods from nodes that are lost.
//
// pulse.go remembers signs of life, plan.go decides about nodes, evict.go about pods; they are pure. A node is alive
// through the session that a gateway holds for it (package internal/liveness). A lost node becomes Ready=Unknown
// and is tainted against new pods at once; the taint that evicts comes at a limited rate and not at all while no
// node is left that is ready: then it is more likely that this process is cut off than that all are lost.
package nodelifecycle

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// A zone with so many nodes not ready is disturbed as a whole; evicting slows down or, in small zones, stops.
	disturbedNodes    = 3
	disturbedFraction = 0.55
	largeZone         = 50
	// How long after tainting one node for eviction the next of its zone may be.
	evictInterval     = 10 * time.Second
	evictIntervalSlow = 100 * time.Second
)

// State is one node and what is known of its life.
type State struct {
	Node *corev1.Node
	// Heard is when it last gave a sign of life, by the clock that Input.Now is of.
	Heard time.Time
	// Why describes its loss, if it is lost.
	Why string
}

// Input is all nodes in any order, and when each zone may next taint a node for eviction.
type Input struct {
	Nodes []State
	Next  map[string]time.Time
	Now   time.Time
}

// Change is what to write to one node.
type Change struct {
	Node *corev1.Node
	// Conditions to merge in; empty: none.
	Conditions []corev1.NodeCondition
	// Taints to have in place of all there are, if SetTaints.
	Taints    []corev1.Taint
	SetTaints bool
	// NotReady: the node has just been lost, which is told in an event.
	NotReady bool
}

// Plan is the changes by node name, the nodes that nothing is heard of, whose pods must not count as ready, and when to
// look again.
//
// Differs: the pods of a node that says itself that it is not ready are left to that node, which is their one writer.
type Plan struct {
	Changes []Change
	Lost    []string
	Next    map[string]time.Time
	WakeAt  time.Time // zero: nothing changes by time alone
}

// MakePlan decides.
func MakePlan(in Input) Plan {
	p := Plan{Next: map[string]time.Time{}}
	nodes := slices.SortedFunc(slices.Values(in.Nodes), func(a, b State) int { return cmp.Compare(a.Node.Name, b.Node.Name) })
	ready := make(map[string]corev1.ConditionStatus, len(nodes))
	zones := map[string]*zone{}
	anyReady := false
	for _, s := range nodes {
		status := readiness(s, in.Now)
		ready[s.Node.Name] = status
		z := zones[zoneOf(s.Node)]
		if z == nil {
			z = &zone{}
			zones[zoneOf(s.Node)] = z
		}
		z.total++
		if status == corev1.ConditionTrue {
			anyReady = true
		} else {
			z.notReady++
		}
		if end := s.Heard.Add(Grace); end.After(in.Now) {
			p.wake(end)
		} else {
			p.Lost = append(p.Lost, s.Node.Name)
		}
	}
	for _, s := range nodes {
		c := Change{Node: s.Node}
		status := ready[s.Node.Name]
		if in.Now.Sub(s.Heard) >= Grace {
			c.Conditions = unknown(s, in.Now)
			c.NotReady = len(c.Conditions) > 0 && isTrue(s.Node, corev1.NodeReady)
		}
		key := zoneOf(s.Node)
		evict := false
		if has := evicting(s.Node, status); status != corev1.ConditionTrue && anyReady {
			evict = has || p.mayEvict(key, zones[key], in)
		}
		c.Taints = taintsFor(s.Node, status, evict, in.Now)
		c.SetTaints = !sameTaints(c.Taints, s.Node.Spec.Taints)
		if len(c.Conditions) > 0 || c.SetTaints {
			p.Changes = append(p.Changes, c)
		}
	}
	for key, at := range in.Next {
		if p.Next[key].IsZero() && at.After(in.Now) {
			p.Next[key] = at
		}
	}
	return p
}

func (p *Plan) wake(at time.Time) {
	if p.WakeAt.IsZero() || at.Before(p.WakeAt) {
		p.WakeAt = at
	}
}

// readiness is the node's Ready condition as it will be after the plan.
func readiness(s State, now time.Time) corev1.ConditionStatus {
	if now.Sub(s.Heard) >= Grace {
		return corev1.ConditionUnknown
	}
	if c := condition(s.Node, corev1.NodeReady); c != nil {
		return c.Status
	}
	return corev1.ConditionFalse // it has not said anything yet
}

// zone counts the nodes of one failure domain.
type zone struct{ total, notReady int }

func zoneOf(n *corev1.Node) string {
	return n.Labels[corev1.LabelTopologyRegion] + "/" + n.Labels[corev1.LabelTopologyZone]
}

// interval between evicting two nodes of the zone; ok is false where none may be.
func (z *zone) interval() (_ time.Duration, ok bool) {
	disturbed := z.notReady < z.total && z.notReady >= disturbedNodes && float64(z.notReady) >= disturbedFraction*float64(z.total)
	switch {
	case !disturbed:
		return evictInterval, true
	case z.total > largeZone:
		return evictIntervalSlow, true
	}
	return 0, false
}

// mayEvict takes the zone's next turn, if it has come.
func (p *Plan) mayEvict(key string, z *zone, in Input) bool {
	interval, ok := z.interval()
	if !ok {
		return false
	}
	next := cmp.Or(p.Next[key], in.Next[key])
	if next.After(in.Now) {
		p.Next[key] = next
		p.wake(next)
		return false
	}
	p.Next[key] = in.Now.Add(interval)
	return true
}

// unknown is the conditions that nobody can vouch for any more and do not say so yet.
func unknown(s State, now time.Time) []corev1.NodeCondition {
	var out []corev1.NodeCondition
	for _, kind := range []corev1.NodeConditionType{
		corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
	} {
		next := corev1.NodeCondition{
			Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown",
			Message:            "The node's agent stopped posting node status: " + s.Why + ".",
			LastTransitionTime: metav1.NewTime(now),
		}
		switch c := condition(s.Node, kind); {
		case c == nil:
			next.Reason = "NodeStatusNeverUpdated"
			next.Message = "The node's agent never posted node status: " + s.Why + "."
			next.LastHeartbeatTime = s.Node.CreationTimestamp
		case c.Status == corev1.ConditionUnknown:
			continue
		default:
			next.LastHeartbeatTime = c.LastHeartbeatTime
		}
		out = append(out, next)
	}
	return out
}

// owned are the taints that this controller keeps; all others are the users'.
var owned = map[string]bool{
	corev1.TaintNodeNotReady: true, corev1.TaintNodeUnreachable: true, corev1.TaintNodeUnschedulable: true,
	corev1.TaintNodeMemoryPressure: true, corev1.TaintNodeDiskPressure: true, corev1.TaintNodePIDPressure: true,
	corev1.TaintNodeNetworkUnavailable: true,
}

// taintsFor is all taints the node should have: the users' as they are, and those that follow from its state.
func taintsFor(n *corev1.Node, ready corev1.ConditionStatus, evict bool, now time.Time) []corev1.Taint {
	want := map[string]bool{
		corev1.TaintNodeNotReady:           ready == corev1.ConditionFalse,
		corev1.TaintNodeUnreachable:        ready == corev1.ConditionUnknown,
		corev1.TaintNodeUnschedulable:      n.Spec.Unschedulable,
		corev1.TaintNodeMemoryPressure:     ready != corev1.ConditionUnknown && isTrue(n, corev1.NodeMemoryPressure),
		corev1.TaintNodeDiskPressure:       ready != corev1.ConditionUnknown && isTrue(n, corev1.NodeDiskPressure),
		corev1.TaintNodePIDPressure:        ready != corev1.ConditionUnknown && isTrue(n, corev1.NodePIDPressure),
		corev1.TaintNodeNetworkUnavailable: isTrue(n, corev1.NodeNetworkUnavailable),
	}
	keep := func(t *corev1.Taint) bool {
		switch {
		case !owned[t.Key]:
			return true
		case t.Effect == corev1.TaintEffectNoExecute:
			return want[t.Key] && evict && evicts(t.Key)
		case t.Effect == corev1.TaintEffectNoSchedule:
			return want[t.Key]
		}
		return true
	}
	var out []corev1.Taint
	has := map[corev1.Taint]bool{}
	for i := range n.Spec.Taints {
		if t := &n.Spec.Taints[i]; keep(t) {
			out = append(out, *t)
			has[corev1.Taint{Key: t.Key, Effect: t.Effect}] = true
		}
	}
	at := metav1.NewTime(now)
	for _, key := range []string{
		corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeUnschedulable, corev1.TaintNodeMemoryPressure,
		corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure, corev1.TaintNodeNetworkUnavailable,
	} {
		if want[key] && !has[corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule}] {
			out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule, TimeAdded: &at})
		}
		if want[key] && evict && evicts(key) && !has[corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute}] {
			out = append(out, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &at})
		}
	}
	return out
}

func evicts(key string) bool {
	return key == corev1.TaintNodeNotReady || key == corev1.TaintNodeUnreachable
}

// evicting is true for a node that has an evicting taint already: changing from one to the other takes no turn.
func evicting(n *corev1.Node, ready corev1.ConditionStatus) bool {
	return ready != corev1.ConditionTrue && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return evicts(t.Key) && t.Effect == corev1.TaintEffectNoExecute
	})
}

func sameTaints(a, b []corev1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool { return x.MatchTaint(&y) && x.Value == y.Value })
}
