package pod

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mergeLabelKeys writes the values that matchLabelKeys and mismatchLabelKeys name into the selectors beside them
// (KEP-3633, KEP-3243), once, at creation: later label changes do not move a pod's constraints.
func mergeLabelKeys(p *corev1.Pod) {
	if a := p.Spec.Affinity; a != nil {
		if a.PodAffinity != nil {
			mergeTerms(p, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
		if a.PodAntiAffinity != nil {
			mergeTerms(p, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution, a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
		}
	}
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		c.LabelSelector = merge(p, c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
}

func mergeTerms(p *corev1.Pod, required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
	for i := range required {
		mergeTerm(p, &required[i])
	}
	for i := range preferred {
		mergeTerm(p, &preferred[i].PodAffinityTerm)
	}
}

func mergeTerm(p *corev1.Pod, t *corev1.PodAffinityTerm) {
	t.LabelSelector = merge(p, t.LabelSelector, t.MatchLabelKeys, metav1.LabelSelectorOpIn)
	t.LabelSelector = merge(p, t.LabelSelector, t.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
}

// merge adds one expression for each key that the pod has a label for. A nil selector stays nil: it selects nothing, and
// validation refuses keys beside it.
func merge(p *corev1.Pod, selector *metav1.LabelSelector, keys []string, op metav1.LabelSelectorOperator) *metav1.LabelSelector {
	if selector == nil {
		return nil
	}
	for _, key := range keys {
		value, ok := p.Labels[key]
		if !ok {
			continue
		}
		want := metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: []string{value}}
		if !slices.ContainsFunc(selector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
			return r.Key == want.Key && r.Operator == want.Operator && slices.Equal(r.Values, want.Values)
		}) {
			selector.MatchExpressions = append(selector.MatchExpressions, want)
		}
	}
	return selector
}
