// Package coordination holds the defaults and validation of its API group.
package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(*runtime.Scheme) error { return nil }

// ValidateLease judges an object about to be created.
func ValidateLease(*coordinationv1.Lease) field.ErrorList { return nil }

// ValidateLeaseUpdate judges an update.
func ValidateLeaseUpdate(_, _ *coordinationv1.Lease) field.ErrorList { return nil }
