package scheduling

import (
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/fill"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, defaultPriorityClass)
	fill.List(s, func(l *schedulingv1.PriorityClassList) []schedulingv1.PriorityClass { return l.Items }, defaultPriorityClass)
	return nil
}

func defaultPriorityClass(p *schedulingv1.PriorityClass) {
	fill.Pointer(&p.PreemptionPolicy, corev1.PreemptLowerPriority)
}
