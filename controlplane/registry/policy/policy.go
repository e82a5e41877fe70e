// Package policy serves poddisruptionbudgets.
package policy

import (
	"context"

	policyv1 "k8s.io/api/policy/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/policy"
	"coracle/controlplane/registry/kind"
)

// PodDisruptionBudgets describes poddisruptionbudgets.
func PodDisruptionBudgets() kind.Kind[*policyv1.PodDisruptionBudget] {
	return kind.Kind[*policyv1.PodDisruptionBudget]{
		Group: policyv1.GroupName, Versions: []string{policyv1.SchemeGroupVersion.String()},
		Resource: "poddisruptionbudgets", Singular: "poddisruptionbudget", Short: []string{"pdb"},
		New:     func() *policyv1.PodDisruptionBudget { return &policyv1.PodDisruptionBudget{} },
		NewList: func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		Main: kind.Strategy[*policyv1.PodDisruptionBudget]{
			Create: func(_ context.Context, obj *policyv1.PodDisruptionBudget) {
				obj.Status, obj.Generation = policyv1.PodDisruptionBudgetStatus{}, 1
			},
			Update: func(_ context.Context, obj, old *policyv1.PodDisruptionBudget) {
				obj.Status, obj.Generation = old.Status, old.Generation
				if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) {
					obj.Generation++
				}
			},
			Validate: policy.ValidatePodDisruptionBudget, ValidateUpdate: policy.ValidatePodDisruptionBudgetUpdate,
			Reset: []string{"status"}, Conditional: true,
		},
		Status: &kind.Strategy[*policyv1.PodDisruptionBudget]{
			Update:         func(_ context.Context, obj, old *policyv1.PodDisruptionBudget) { obj.Spec = old.Spec },
			ValidateUpdate: policy.ValidatePodDisruptionBudgetStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}
