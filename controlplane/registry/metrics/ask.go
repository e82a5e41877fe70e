package metrics

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"coracle/internal/usage"
)

const (
	// askTimeout is how long one node may take: two readings a second apart on the first request, and a slow link. A list
	// waits for its slowest node, so it is short.
	askTimeout = 10 * time.Second
	// answerFor is how long an answer is given again: many autoscalers ask for the same nodes at about the same time.
	answerFor = 5 * time.Second
	// together bounds how many nodes are asked at once.
	together = 32
)

// asker asks nodes, each by one caller at a time. Safe for concurrent use.
type asker struct {
	ask func(ctx context.Context, node string) (*usage.Node, error)
	now func() time.Time

	mu    sync.Mutex
	asked map[string]*answer
}

// answer is what a node said; it is being asked until done is closed.
type answer struct {
	done chan struct{}
	at   time.Time
	node *usage.Node
}

// all asks the nodes and returns the answers of those that gave one.
func (a *asker) all(ctx context.Context, names []string) map[string]*usage.Node {
	a.forget()
	out := make(map[string]*usage.Node, len(names))
	var mu sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, together)
	for _, name := range names {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if n := a.one(ctx, name); n != nil {
				mu.Lock()
				defer mu.Unlock()
				out[name] = n
			}
		})
	}
	wait.Wait()
	return out
}

// one is the answer of a node, or nil.
func (a *asker) one(ctx context.Context, name string) *usage.Node {
	a.mu.Lock()
	known := a.asked[name]
	if known == nil {
		known = &answer{done: make(chan struct{})}
		a.asked[name] = known
		a.mu.Unlock()
		a.fill(ctx, name, known)
		return known.node
	}
	a.mu.Unlock()
	select {
	case <-known.done:
		return known.node
	case <-ctx.Done():
		return nil
	}
}

// fill asks. Others may wait for the answer too, so that it outlives the first asker.
func (a *asker) fill(ctx context.Context, name string, into *answer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	node, err := a.ask(ctx, name)
	if err == nil && node.Window > 0 {
		into.node = node
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	into.at = a.now()
	if into.node == nil {
		delete(a.asked, name) // to be asked again by the next
	}
	close(into.done)
}

// forget drops the answers that are too old.
func (a *asker) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, known := range a.asked {
		select {
		case <-known.done:
			if a.now().Sub(known.at) > answerFor {
				delete(a.asked, name)
			}
		default:
		}
	}
}

// pods asks the nodes of the pods, and returns the figures of those pods of which something runs.
func (a *asker) pods(ctx context.Context, pods []v1.Pod) []metricsv1beta1.PodMetrics {
	var nodes []string
	seen := map[string]bool{}
	for i := range pods {
		if node := pods[i].Spec.NodeName; runs(&pods[i]) && !seen[node] {
			seen[node] = true
			nodes = append(nodes, node)
		}
	}
	type key struct{ node, namespace, name string }
	found := map[key]*usage.Pod{}
	for node, n := range a.all(ctx, nodes) {
		for i := range n.Pods {
			found[key{node, n.Pods[i].Namespace, n.Pods[i].Name}] = &n.Pods[i]
		}
	}
	out := []metricsv1beta1.PodMetrics{}
	for i := range pods {
		p := found[key{pods[i].Spec.NodeName, pods[i].Namespace, pods[i].Name}]
		if p != nil && runs(&pods[i]) {
			out = append(out, podMetrics(&pods[i], p))
		}
	}
	return out
}

func runs(p *v1.Pod) bool { return p.Spec.NodeName != "" && p.Status.Phase == v1.PodRunning }
