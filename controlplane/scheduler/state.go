package scheduler

import (
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/controlplane/scheduler/decide"
)

// assumedLimit is how long a pod that was bound is counted on its node without being seen there.
const assumedLimit = 5 * time.Minute

// state is the nodes and the pods on them, kept up to date by events, with the pods that were just given a
// node counted before the API says so. Safe for concurrent use.
type state struct {
	mu         sync.Mutex
	nodes      map[string]*decide.Node
	placed     map[types.UID]placement
	namespaces map[string]map[string]string
}

// placement is where a pod is counted.
type placement struct {
	node    string
	assumed bool
	until   time.Time // assumed and bound: dropped then; zero: still being bound
}

func newState() *state {
	return &state{nodes: map[string]*decide.Node{}, placed: map[types.UID]placement{}, namespaces: map[string]map[string]string{}}
}

func (s *state) node(name string) *decide.Node {
	n := s.nodes[name]
	if n == nil {
		n = decide.NewNode()
		s.nodes[name] = n
	}
	return n
}

// setNode takes a node's newest state; object nil: it is gone.
func (s *state) setNode(name string, object *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.node(name).Set(object)
	s.sweep(name)
}

// sweep forgets a node of which nothing is left.
func (s *state) sweep(name string) {
	if n := s.nodes[name]; n != nil && n.Empty() {
		delete(s.nodes, name)
	}
}

// setPod counts a pod that the API says is on a node.
func (s *state) setPod(p *decide.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(p.UID)
	s.node(p.Spec.NodeName).Add(p)
	s.placed[p.UID] = placement{node: p.Spec.NodeName}
}

// removePod stops counting a pod that is gone or has ended. was is false if it was not counted.
func (s *state) removePod(uid types.UID) (was bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drop(uid)
}

func (s *state) drop(uid types.UID) bool {
	at, ok := s.placed[uid]
	if !ok {
		return false
	}
	delete(s.placed, uid)
	if n := s.nodes[at.node]; n != nil {
		n.Remove(uid)
		s.sweep(at.node)
	}
	return true
}

// setNamespace keeps a namespace's labels; nil forgets it.
func (s *state) setNamespace(name string, labels map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if labels == nil {
		delete(s.namespaces, name)
		return
	}
	s.namespaces[name] = maps.Clone(labels)
}

// decide chooses a node for a pod and counts it there at once, so that the next pod finds it taken.
func (s *state) decide(p *decide.Pod, now time.Time) decide.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	cluster := &decide.Cluster{Namespaces: s.namespaces}
	for _, n := range s.nodes {
		if n.Object != nil {
			cluster.Nodes = append(cluster.Nodes, n)
		}
	}
	d := decide.Decide(p, cluster)
	if d.Node != "" {
		s.drop(p.UID)
		s.node(d.Node).Add(p)
		s.placed[p.UID] = placement{node: d.Node, assumed: true}
	}
	return d
}

// bound starts the time after which an assumed pod that was never seen on its node is forgotten.
func (s *state) bound(uid types.UID, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.placed[uid]; ok && at.assumed {
		at.until = now.Add(assumedLimit)
		s.placed[uid] = at
	}
}

// forget takes back an assumption that did not come true. A pod that the API put there stays.
func (s *state) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.placed[uid]; ok && at.assumed {
		s.drop(uid)
	}
}

func (s *state) expire(now time.Time) {
	for uid, at := range s.placed {
		if at.assumed && !at.until.IsZero() && !at.until.After(now) {
			s.drop(uid)
		}
	}
}
