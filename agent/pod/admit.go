package pod

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Rejection is why a node does not run a pod that was bound to it, in Kubernetes' words.
type Rejection struct{ Reason, Message string }

// rejectedPrefix is how the status of a pod begins that was turned away.
const rejectedPrefix = "Pod was rejected: "

// Failed is the end that a rejected pod comes to.
func (r *Rejection) Failed() *Failed {
	return &Failed{Reason: r.Reason, Message: rejectedPrefix + r.Message, Rejected: true}
}

// AdmissionNodeAffinity is the reason of a pod whose node selector or affinity the node's labels do not meet. It is
// the one that is worth a second look: the labels may be on their way.
const AdmissionNodeAffinity = "NodeAffinity"

// Admit says whether the node takes a pod that it has not run yet. Where a critical pod lacks
// nothing but resources it is taken, and victims are the pods that must end to make room for it.
//
// The checks and their words are those of Kubernetes' node admission. Taints count only with
// the effect NoExecute, and not for pods from the node's own files.
func (o *Occupancy) Admit(p *v1.Pod) (rejected *Rejection, victims []*v1.Pod) {
	if rejected = checkOS(p); rejected != nil {
		return rejected, nil
	}
	if rejected = checkSysctls(p, o.UnsafeSysctls); rejected != nil {
		return rejected, nil
	}
	if rejected = checkAppArmor(p, o.NoAppArmor); rejected != nil {
		return rejected, nil
	}
	short := o.shortages(p)
	other := o.unfit(p)
	switch {
	case len(short) == 0:
		return other, nil
	case !Critical(p):
		return short[0].rejection(), nil
	case other != nil:
		return other, nil
	}
	victims, ok := o.preempt(p, short)
	if !ok {
		return &Rejection{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf(
			"Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [%s]",
			lack(short))}, nil
	}
	return nil, victims
}

func lack(short []shortage) string {
	var b strings.Builder
	for _, s := range short {
		fmt.Fprintf(&b, "(res: %s, q: %d), ", s.name, s.lacking())
	}
	return b.String()
}

// unfit is why the pod and the node do not go together, resources aside.
func (o *Occupancy) unfit(p *v1.Pod) *Rejection {
	predicate := func(name, why string) *Rejection {
		return &Rejection{Reason: name, Message: fmt.Sprintf("Predicate %s failed: %s", name, why)}
	}
	if o.Node != nil && !matchesNode(p, o.Node) {
		return predicate(AdmissionNodeAffinity, "node(s) didn't match Pod's node affinity/selector")
	}
	if o.takenPort(p) {
		return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
	}
	if o.Node != nil && !Static(p) && !toleratesAll(p.Spec.Tolerations, o.Node.Spec.Taints) {
		return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
	}
	return nil
}

// checkOS turns pods of other operating systems away.
func checkOS(p *v1.Pod) *Rejection {
	if os, ok := p.Labels[v1.LabelOSStable]; ok && os != string(v1.Linux) {
		return &Rejection{Reason: "PodOSSelectorNodeLabelDoesNotMatch", Message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if p.Spec.OS != nil && p.Spec.OS.Name != v1.Linux {
		return &Rejection{Reason: "PodOSNotSupported", Message: "Failed to admit pod as the OS field doesn't match node OS"}
	}
	return nil
}

// SourceAnnotation says where a pod comes from: "file" for those of the node's own folder, "api" or nothing for others.
const SourceAnnotation = "kubernetes.io/config.source"

// Static says that the pod comes from a file of the node and not from the API.
func Static(p *v1.Pod) bool {
	source, ok := p.Annotations[SourceAnnotation]
	return ok && source != "api"
}

// Critical says that other pods may be ended for this one.
func Critical(p *v1.Pod) bool {
	_, mirror := p.Annotations[v1.MirrorPodAnnotationKey]
	return Static(p) || mirror || p.Spec.Priority != nil && *p.Spec.Priority >= systemCriticalPriority
}

// amount is how much of a resource a quantity is: thousandths of a CPU, bytes or pieces of others.
func amount(name v1.ResourceName, q resource.Quantity) int64 {
	if name == v1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// matchesNode is Kubernetes' rule: all of nodeSelector, and one of the required terms of node affinity.
func matchesNode(p *v1.Pod, node *v1.Node) bool {
	for k, want := range p.Spec.NodeSelector {
		if have, ok := node.Labels[k]; !ok || have != want {
			return false
		}
	}
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	terms := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	return slices.ContainsFunc(terms, func(t v1.NodeSelectorTerm) bool { return meetsTerm(t, node) })
}

func meetsTerm(t v1.NodeSelectorTerm, node *v1.Node) bool {
	if len(t.MatchExpressions) == 0 && len(t.MatchFields) == 0 {
		return false // an empty term matches nothing
	}
	for _, r := range t.MatchExpressions {
		have, ok := node.Labels[r.Key]
		if !meets(r, have, ok) {
			return false
		}
	}
	for _, r := range t.MatchFields {
		if !meets(r, node.Name, r.Key == "metadata.name") {
			return false
		}
	}
	return true
}

func meets(r v1.NodeSelectorRequirement, have string, ok bool) bool {
	switch r.Operator {
	case v1.NodeSelectorOpIn:
		return ok && slices.Contains(r.Values, have)
	case v1.NodeSelectorOpNotIn:
		return !ok || !slices.Contains(r.Values, have)
	case v1.NodeSelectorOpExists:
		return ok
	case v1.NodeSelectorOpDoesNotExist:
		return !ok
	case v1.NodeSelectorOpGt, v1.NodeSelectorOpLt:
		if !ok || len(r.Values) != 1 {
			return false
		}
		n, err := parseInt(have)
		limit, err2 := parseInt(r.Values[0])
		if err != nil || err2 != nil {
			return false
		}
		return r.Operator == v1.NodeSelectorOpGt && n > limit || r.Operator == v1.NodeSelectorOpLt && n < limit
	}
	return false
}

func parseInt(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// toleratesAll looks at taints of the effect NoExecute alone: others are the scheduler's.
func toleratesAll(tolerations []v1.Toleration, taints []v1.Taint) bool {
	for i := range taints {
		if taints[i].Effect != v1.TaintEffectNoExecute {
			continue
		}
		if !slices.ContainsFunc(tolerations, func(t v1.Toleration) bool { return tolerates(t, taints[i]) }) {
			return false
		}
	}
	return true
}

func tolerates(t v1.Toleration, taint v1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case "", v1.TolerationOpEqual:
		return t.Key != "" && t.Value == taint.Value
	case v1.TolerationOpExists:
		return true
	case v1.TolerationOpLt, v1.TolerationOpGt:
		have, err := parseInt(taint.Value)
		limit, err2 := parseInt(t.Value)
		if err != nil || err2 != nil {
			return false
		}
		return t.Operator == v1.TolerationOpLt && have < limit || t.Operator == v1.TolerationOpGt && have > limit
	}
	return false
}
