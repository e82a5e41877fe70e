package decide

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// Why a node does not take a pod, in the words that users know.
const (
	reasonUnschedulable = "node(s) were unschedulable"
	reasonNodeName      = "node(s) didn't match the requested node name"
	reasonNodeAffinity  = "node(s) didn't match Pod's node affinity/selector"
	reasonPorts         = "node(s) didn't have free ports for the requested pod ports"
	reasonTooManyPods   = "Too many pods"
	reasonAffinity      = "node(s) didn't match pod affinity rules"
	reasonAntiAffinity  = "node(s) didn't match pod anti-affinity rules"
	reasonExistingAnti  = "node(s) didn't satisfy existing pods anti-affinity rules"
	reasonSpread        = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel   = "node(s) didn't match pod topology spread constraints (missing required label)"
)

// Wake says which changes may help a pod that found no node.
type Wake uint8

// Nodes: a node came or changed. Freed: a pod left a node. Placed: a pod came to a node or was relabelled.
const (
	Nodes Wake = 1 << iota
	Freed
	Placed
)

// quiet: the helpers log, deciding does not.
var quiet = klog.Logger{}

// filter is one check; it returns the reasons against the node, none if it passes.
type filter struct {
	check func(q *query, n *Node) []string
	wake  Wake
}

// filters in the order in which they are asked; the first that fails speaks for the node.
var filters = []filter{
	{unschedulable, Nodes},
	{nodeName, Nodes},
	{taints, Nodes},
	{affinity, Nodes},
	{freePorts, Nodes | Freed},
	{fits, Nodes | Freed},
	{spreads, Nodes | Freed | Placed},
	{podAffinity, Nodes | Freed | Placed},
}

func one(reason string) []string { return []string{reason} }

func unschedulable(q *query, n *Node) []string {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if n.Object.Spec.Unschedulable && !tolerates(q.pod, &taint) {
		return one(reasonUnschedulable)
	}
	return nil
}

func nodeName(q *query, n *Node) []string {
	if q.pod.Spec.NodeName != "" && q.pod.Spec.NodeName != n.Object.Name {
		return one(reasonNodeName)
	}
	return nil
}

func tolerates(p *Pod, taint *corev1.Taint) bool {
	for i := range p.Spec.Tolerations {
		if p.Spec.Tolerations[i].ToleratesTaint(quiet, taint, true) {
			return true
		}
	}
	return false
}

func untolerated(p *Pod, n *Node) *corev1.Taint {
	for i := range n.Object.Spec.Taints {
		t := &n.Object.Spec.Taints[i]
		if (t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute) && !tolerates(p, t) {
			return t
		}
	}
	return nil
}

// taints stand for a node's conditions too: not-ready, unreachable, pressure and network taints follow them.
func taints(q *query, n *Node) []string {
	if t := untolerated(q.pod, n); t != nil {
		return one(fmt.Sprintf("node(s) had untolerated taint {%s: %s}", t.Key, t.Value))
	}
	return nil
}

func affinity(q *query, n *Node) []string {
	if ok, err := q.pod.required.Match(n.Object); err != nil || !ok {
		return one(reasonNodeAffinity)
	}
	return nil
}

func freePorts(q *query, n *Node) []string {
	if len(q.pod.ports) == 0 {
		return nil
	}
	for _, other := range n.pods {
		for _, taken := range other.ports {
			for _, wanted := range q.pod.ports {
				if wanted.collides(taken) {
					return one(reasonPorts)
				}
			}
		}
	}
	return nil
}

// fits names every resource that is short, so that the user need not find them one by one.
func fits(q *query, n *Node) []string {
	var out []string
	r, free := q.pod.Request, n.Free()
	if free.Pods < 1 {
		out = append(out, reasonTooManyPods)
	}
	short := func(name corev1.ResourceName, want, has int64) {
		if want > 0 && want > has {
			out = append(out, "Insufficient "+string(name))
		}
	}
	short(corev1.ResourceCPU, r.MilliCPU, free.MilliCPU)
	short(corev1.ResourceMemory, r.Memory, free.Memory)
	short(corev1.ResourceEphemeralStorage, r.Storage, free.Storage)
	for name, want := range r.Other {
		short(name, want, free.Other[name])
	}
	return out
}
