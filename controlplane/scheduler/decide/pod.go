package decide

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/utils/ptr"
)

// Pod is a pod with all that deciding needs of it worked out once. It is not changed afterwards.
type Pod struct {
	*corev1.Pod
	Request Resources
	likely  Resources
	ports   []hostPort

	required  nodeaffinity.RequiredNodeAffinity
	preferred *nodeaffinity.PreferredSchedulingTerms // nil: none

	affinity, antiAffinity         []term // required
	softAffinity, softAntiAffinity []term // preferred, with weights
	hardSpread, softSpread         []constraint
	controller                     types.UID // of the pod's controller; empty: none
	images                         []string
}

// Priority is the pod's priority, 0 where none was set.
func (p *Pod) Priority() int32 { return ptr.Deref(p.Spec.Priority, 0) }

// term is one pod (anti-)affinity term.
type term struct {
	selector   labels.Selector
	namespaces map[string]bool
	nsSelector labels.Selector // nil: by name only
	key        string          // topology
	weight     int64
}

// constraint is one topology spread constraint.
type constraint struct {
	maxSkew, minDomains int32
	key                 string
	selector            labels.Selector
	honorAffinity       bool
	honorTaints         bool
}

type hostPort struct {
	ip       string
	protocol corev1.Protocol
	port     int32
}

// collides is true where both cannot be had on one node: the unspecified address stands for every address.
func (a hostPort) collides(b hostPort) bool {
	return a.port == b.port && a.protocol == b.protocol && (a.ip == b.ip || a.ip == anyIP || b.ip == anyIP)
}

const anyIP = "0.0.0.0"

// NewPod works a pod out. Selectors that cannot be parsed match nothing; validation lets none through.
func NewPod(pod *corev1.Pod) *Pod {
	p := &Pod{
		Pod: pod, Request: requestOf(pod), likely: likelyUse(pod), ports: hostPorts(pod),
		required: nodeaffinity.GetRequiredNodeAffinity(pod),
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		p.controller = ref.UID
	}
	for i := range pod.Spec.Containers {
		p.images = append(p.images, pod.Spec.Containers[i].Image)
	}
	for _, c := range pod.Spec.TopologySpreadConstraints {
		k := newConstraint(pod, c)
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			p.hardSpread = append(p.hardSpread, k)
		} else {
			p.softSpread = append(p.softSpread, k)
		}
	}
	a := pod.Spec.Affinity
	if a == nil {
		return p
	}
	if a.NodeAffinity != nil && len(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
		if terms, err := nodeaffinity.NewPreferredSchedulingTerms(a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution); err == nil {
			p.preferred = terms
		}
	}
	if a.PodAffinity != nil {
		p.affinity = newTerms(pod, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		p.softAffinity = weighted(pod, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a.PodAntiAffinity != nil {
		p.antiAffinity = newTerms(pod, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution)
		p.softAntiAffinity = weighted(pod, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return p
}

func hostPorts(pod *corev1.Pod) []hostPort {
	var out []hostPort
	see := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				ip := cmp.Or(p.HostIP, anyIP)
				if ip == "::" {
					ip = anyIP
				}
				out = append(out, hostPort{ip, cmp.Or(p.Protocol, corev1.ProtocolTCP), p.HostPort})
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		if ptr.Deref(pod.Spec.InitContainers[i].RestartPolicy, "") == corev1.ContainerRestartPolicyAlways {
			see(&pod.Spec.InitContainers[i])
		}
	}
	for i := range pod.Spec.Containers {
		see(&pod.Spec.Containers[i])
	}
	return out
}

func selectorOf(s *metav1.LabelSelector) labels.Selector {
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}

// withKeys narrows a selector to objects with the same (or, for mismatch, another) value as the pod's own.
func withKeys(pod *corev1.Pod, s labels.Selector, match, mismatch []string) labels.Selector {
	for i, key := range slices.Concat(match, mismatch) {
		value, ok := pod.Labels[key]
		if !ok {
			continue
		}
		op := "in"
		if i >= len(match) {
			op = "notin"
		}
		if r, err := labels.ParseToRequirements(key + " " + op + " (" + value + ")"); err == nil {
			s = s.Add(r...)
		}
	}
	return s
}

func newTerm(pod *corev1.Pod, t *corev1.PodAffinityTerm) term {
	out := term{
		selector: withKeys(pod, selectorOf(t.LabelSelector), t.MatchLabelKeys, t.MismatchLabelKeys),
		key:      t.TopologyKey, namespaces: map[string]bool{},
	}
	for _, ns := range t.Namespaces {
		out.namespaces[ns] = true
	}
	if t.NamespaceSelector != nil {
		out.nsSelector = selectorOf(t.NamespaceSelector)
	} else if len(t.Namespaces) == 0 {
		out.namespaces[pod.Namespace] = true
	}
	return out
}

func newTerms(pod *corev1.Pod, list []corev1.PodAffinityTerm) []term {
	var out []term
	for i := range list {
		out = append(out, newTerm(pod, &list[i]))
	}
	return out
}

func weighted(pod *corev1.Pod, list []corev1.WeightedPodAffinityTerm) []term {
	var out []term
	for i := range list {
		t := newTerm(pod, &list[i].PodAffinityTerm)
		t.weight = int64(list[i].Weight)
		out = append(out, t)
	}
	return out
}

// matches is true where the term speaks of that pod. namespaces gives the labels of each namespace.
func (t *term) matches(pod *corev1.Pod, namespaces map[string]map[string]string) bool {
	if !t.namespaces[pod.Namespace] {
		if t.nsSelector == nil || !t.nsSelector.Matches(labels.Set(namespaces[pod.Namespace])) {
			return false
		}
	}
	return t.selector.Matches(labels.Set(pod.Labels))
}

func newConstraint(pod *corev1.Pod, c corev1.TopologySpreadConstraint) constraint {
	return constraint{
		maxSkew: c.MaxSkew, minDomains: ptr.Deref(c.MinDomains, 1), key: c.TopologyKey,
		selector:      withKeys(pod, selectorOf(c.LabelSelector), c.MatchLabelKeys, nil),
		honorAffinity: ptr.Deref(c.NodeAffinityPolicy, corev1.NodeInclusionPolicyHonor) == corev1.NodeInclusionPolicyHonor,
		honorTaints:   ptr.Deref(c.NodeTaintsPolicy, corev1.NodeInclusionPolicyIgnore) == corev1.NodeInclusionPolicyHonor,
	}
}
