// Package scheduling serves priorityclasses.
package scheduling

import (
	"context"

	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/scheduling"
	"coracle/controlplane/registry/kind"
)

// PriorityClasses describes priorityclasses.
func PriorityClasses() kind.Kind[*schedulingv1.PriorityClass] {
	return kind.Kind[*schedulingv1.PriorityClass]{
		Group: schedulingv1.GroupName, Versions: []string{schedulingv1.SchemeGroupVersion.String()},
		Resource: "priorityclasses", Singular: "priorityclass", Short: []string{"pc"}, ClusterScoped: true,
		New:     func() *schedulingv1.PriorityClass { return &schedulingv1.PriorityClass{} },
		NewList: func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		Main: kind.Strategy[*schedulingv1.PriorityClass]{
			Create:   func(_ context.Context, obj *schedulingv1.PriorityClass) { obj.Generation = 1 },
			Validate: scheduling.ValidatePriorityClass, ValidateUpdate: scheduling.ValidatePriorityClassUpdate,
		},
	}
}
