// Package scheduling holds the defaults and validation of its API group.
package scheduling

import (
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePriorityClass judges an object about to be created.
func ValidatePriorityClass(*schedulingv1.PriorityClass) field.ErrorList { return nil }

// ValidatePriorityClassUpdate judges an update.
func ValidatePriorityClassUpdate(_, _ *schedulingv1.PriorityClass) field.ErrorList { return nil }
