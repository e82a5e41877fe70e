package decide

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

type podOption func(*corev1.Pod)

func newPod(name string, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID("uid-" + name), Labels: map[string]string{}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry/app:1"}}},
	}
	for _, o := range options {
		o(p)
	}
	return p
}

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func requests(pairs ...string) podOption {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = list(pairs...) }
}

func labelled(pairs ...string) podOption {
	return func(p *corev1.Pod) {
		for i := 0; i+1 < len(pairs); i += 2 {
			p.Labels[pairs[i]] = pairs[i+1]
		}
	}
}

func hostPortOn(ip string, port int32) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{HostIP: ip, HostPort: port, ContainerPort: port})
	}
}

func tolerating(t corev1.Toleration) podOption {
	return func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, t) }
}

func selector(pairs ...string) *metav1.LabelSelector {
	out := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		out.MatchLabels[pairs[i]] = pairs[i+1]
	}
	return out
}

func affinities(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	return p.Spec.Affinity
}

func near(key string, s *metav1.LabelSelector) podOption {
	return func(p *corev1.Pod) {
		affinities(p).PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: s, TopologyKey: key}}}
	}
}

func awayFrom(key string, s *metav1.LabelSelector) podOption {
	return func(p *corev1.Pod) {
		affinities(p).PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: s, TopologyKey: key}}}
	}
}

func spreadOver(key string, skew int32, s *metav1.LabelSelector, when corev1.UnsatisfiableConstraintAction) podOption {
	return func(p *corev1.Pod) {
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: skew, TopologyKey: key, WhenUnsatisfiable: when, LabelSelector: s,
		})
	}
}

func ownedBy(uid types.UID) podOption {
	yes := true
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: string(uid), UID: uid, Controller: &yes}}
	}
}

type nodeOption func(*corev1.Node)

func newNode(name string, options ...nodeOption) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Allocatable: list("cpu", "4", "memory", "8Gi", "pods", "110", "ephemeral-storage", "10Gi")},
	}
	for _, o := range options {
		o(n)
	}
	return n
}

func with(key, value string) nodeOption { return func(n *corev1.Node) { n.Labels[key] = value } }

func tainted(key, value string, effect corev1.TaintEffect) nodeOption {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

func holding(pairs ...string) nodeOption {
	return func(n *corev1.Node) { n.Status.Allocatable = list(pairs...) }
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

// on puts pods on a node.
func on(object *corev1.Node, pods ...*corev1.Pod) *Node {
	n := NewNode()
	n.Set(object)
	for _, p := range pods {
		n.Add(NewPod(p))
	}
	return n
}

func crowd(n int, prefix string, options ...podOption) []*corev1.Pod {
	var out []*corev1.Pod
	for i := range n {
		out = append(out, newPod(fmt.Sprintf("%s-%d", prefix, i), options...))
	}
	return out
}
