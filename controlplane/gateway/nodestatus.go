package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	nodev1 "coracle/proto/node/v1"
)

const nodeWorkers = 4

// nodeReport is the latest that an agent said of its node.
type nodeReport struct {
	from     *session
	sequence uint64
	node     *v1.Node
	done     *atomic.Bool // it was taken into the API and acknowledged
}

func (g *Gateway) takeNode(s *session, m *nodev1.NodeStatus) {
	node := &v1.Node{}
	if err := node.Unmarshal(m.GetNode()); err != nil {
		g.c.Log.Warn("node status unreadable", "node", s.node, "err", err)
		s.ack(nodev1.StatusAck_NODE, "", m.GetSequence())
		return
	}
	g.nodes.put(s.node, nodeReport{from: s, sequence: m.GetSequence(), node: node, done: &atomic.Bool{}})
}

func (g *Gateway) reportNode(ctx context.Context, name string) error {
	r, ok := g.nodes.get(name)
	if !ok {
		return nil
	}
	if err := g.writeNode(ctx, name, r); err != nil {
		return fmt.Errorf("node %s: %w", name, err)
	}
	if r.done.CompareAndSwap(false, true) {
		r.from.ack(nodev1.StatusAck_NODE, "", r.sequence)
	}
	if g.session(name) != r.from {
		g.nodes.remove(func(k string, v nodeReport) bool { return k == name && v.done == r.done })
	}
	return nil
}

func (g *Gateway) writeNode(ctx context.Context, name string, r nodeReport) error {
	nodes := g.c.Client.CoreV1().Nodes()
	node, err := g.world.node.Get(name)
	if apierrors.IsNotFound(err) {
		node, err = nodes.Get(ctx, name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		// A node that is connected is part of the cluster: its object, deleted by a person, is made anew. One that has
		// hung up may be leaving, and what it said is in the API already.
		if r.done.Load() && g.session(name) != r.from {
			return nil
		}
		node, err = g.register(ctx, name, r.node)
	}
	if err != nil {
		return err
	}
	if node, err = g.labelNode(ctx, node, r.node); err != nil {
		return err
	}
	const tries = 5
	for try := 0; ; try++ {
		merged, changed := mergeNodeStatus(&node.Status, &r.node.Status)
		if !changed {
			return nil
		}
		next := *node
		next.Status = merged
		_, err := nodes.UpdateStatus(ctx, &next, metav1.UpdateOptions{})
		switch {
		case err == nil:
			g.tellOfNode(ctx, name, &node.Status, &merged)
			return nil
		case apierrors.IsNotFound(err):
			return nil
		case apierrors.IsInvalid(err):
			g.c.Log.Error("node status refused", "node", name, "err", err)
			return nil
		case !apierrors.IsConflict(err) || try == tries:
			return err
		}
		if node, err = nodes.Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
}

// register makes the Node object of a node that is seen for the first time.
func (g *Gateway) register(ctx context.Context, name string, reported *v1.Node) (*v1.Node, error) {
	labels, refused := nodeLabels(reported.Labels)
	if len(refused) > 0 {
		g.c.Log.Warn("labels that a node may not give itself were left out; set them with kubectl", "node", name, "labels", strings.Join(refused, ","))
	}
	node := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: reported.Annotations},
		Spec:       v1.NodeSpec{Taints: reported.Spec.Taints, Unschedulable: reported.Spec.Unschedulable, ProviderID: reported.Spec.ProviderID},
		Status:     *reported.Status.DeepCopy(),
	}
	made, err := g.c.Client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return g.c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	g.c.Log.Info("node registered", "node", name)
	g.tellOfNode(ctx, name, &v1.NodeStatus{}, &made.Status)
	return made, nil
}

// labelNode keeps the labels that describe the machine true.
func (g *Gateway) labelNode(ctx context.Context, node, reported *v1.Node) (*v1.Node, error) {
	set := systemLabels(node.Labels, reported.Labels)
	if len(set) == 0 {
		return node, nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": set}})
	if err != nil {
		return nil, fmt.Errorf("encode labels: %w", err)
	}
	after, err := g.c.Client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("set labels: %w", err)
	}
	return after, nil
}
