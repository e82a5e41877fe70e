// Package policy holds the defaults and validation of its API group.
package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(*runtime.Scheme) error { return nil }

// ValidateEviction judges an object about to be created.
func ValidateEviction(*policyv1.Eviction) field.ErrorList { return nil }

// ValidatePodDisruptionBudget judges an object about to be created.
func ValidatePodDisruptionBudget(*policyv1.PodDisruptionBudget) field.ErrorList { return nil }

// ValidatePodDisruptionBudgetUpdate judges an update.
func ValidatePodDisruptionBudgetUpdate(_, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	return nil
}

// ValidatePodDisruptionBudgetStatusUpdate judges an update of the status.
func ValidatePodDisruptionBudgetStatusUpdate(_, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	return nil
}
