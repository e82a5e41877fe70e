package nodelifecycle

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"coracle/internal/liveness"
)

// Grace is how long nothing may be heard of a node before it counts as unreachable.
const Grace = 40 * time.Second

// Pulse remembers when signs of life were last seen, by this process's clock: nodes, gateways and control planes may
// have clocks that differ by years. A process that starts gives everybody the whole time anew.
// The zero value is ready. Not safe for concurrent use.
type Pulse struct {
	nodes    map[string]*sign
	gateways map[string]*sign
}

// sign is the newest mark of life, whatever it says, and when it was first seen.
type sign struct {
	marks [2]time.Time
	ended time.Time // of the session, as last read
	seen  time.Time
}

func (s *sign) see(now time.Time, marks ...time.Time) {
	for i, m := range marks {
		if !m.Equal(s.marks[i]) {
			s.marks[i], s.seen = m, now
		}
	}
}

func lookup(m *map[string]*sign, name string, now time.Time) *sign {
	if *m == nil {
		*m = map[string]*sign{}
	}
	s := (*m)[name]
	if s == nil {
		s = &sign{seen: now}
		(*m)[name] = s
	}
	return s
}

// Gateway notes a gateway's Lease and returns until when the gateway is believed.
func (p *Pulse) Gateway(name string, lease *coordinationv1.Lease, now time.Time) time.Time {
	s := lookup(&p.gateways, name, now)
	if lease == nil {
		return time.Time{} // it gave its lease up, or never had one
	}
	if lease.Spec.RenewTime != nil {
		s.see(now, lease.Spec.RenewTime.Time)
	}
	return s.seen.Add(liveness.GatewayLeaseDuration)
}

// Node notes the signs of one node and returns when it was last heard of. lease is the node's, nil if it has none;
// believed is until when the gateway that the lease names is believed.
//
// How long ago a session ended is told by two times of the same clock, the gateway's: the end, and its own last
// renewal. It counts where the end is seen to come; a process that starts gives the whole grace time anew.
//
// A node lives through its session. An agent that renews its lease itself, or the heartbeat of its Ready
// condition, is heard too.
func (p *Pulse) Node(node *corev1.Node, lease *coordinationv1.Lease, believed, now time.Time) time.Time {
	known := p.nodes[node.Name] != nil
	s := lookup(&p.nodes, node.Name, now)
	var heartbeat, renewed time.Time
	if c := condition(node, corev1.NodeReady); c != nil && c.Status != corev1.ConditionUnknown {
		heartbeat = c.LastHeartbeatTime.Time
	}
	if lease != nil && lease.Spec.RenewTime != nil {
		renewed = lease.Spec.RenewTime.Time
	}
	if heartbeat.IsZero() {
		heartbeat = s.marks[0] // taken away by this controller itself: no sign
	}
	s.see(now, heartbeat, renewed)
	session := liveness.ReadSession(lease)
	if session.Live() && believed.After(now) {
		s.seen = now
	}
	if known && !session.Ended.IsZero() && !session.Ended.Equal(s.ended) {
		if g := p.gateways[session.Gateway]; g != nil {
			if away := g.marks[0].Sub(session.Ended); away > 0 && now.Add(-away).Before(s.seen) {
				s.seen = now.Add(-away)
			}
		}
	}
	s.ended = session.Ended
	return s.seen
}

// Keep forgets all nodes but these.
func (p *Pulse) Keep(nodes map[string]bool) {
	for name := range p.nodes {
		if !nodes[name] {
			delete(p.nodes, name)
		}
	}
}

func condition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

func isTrue(node *corev1.Node, kind corev1.NodeConditionType) bool {
	c := condition(node, kind)
	return c != nil && c.Status == corev1.ConditionTrue
}

// session is what describes the loss of a node best.
func session(lease *coordinationv1.Lease) string {
	s := liveness.ReadSession(lease)
	switch {
	case lease == nil || s.Gateway == "":
		return "no session was ever held"
	case s.Live():
		return "gateway " + s.Gateway + ", which holds its session, stopped renewing its lease"
	}
	return "its session with gateway " + s.Gateway + " ended at " + ptr.To(s.Ended.UTC()).Format(time.RFC3339)
}
