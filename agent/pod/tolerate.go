package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// Tolerates says whether one of the pod's tolerations is for this taint.
func Tolerates(p *v1.Pod, taint v1.Taint) bool {
	return slices.ContainsFunc(p.Spec.Tolerations, func(t v1.Toleration) bool { return tolerates(t, taint) })
}
