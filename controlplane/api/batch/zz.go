// Package batch holds the defaults and validation of its API group.
package batch

import (
	"k8s.io/apimachinery/pkg/runtime"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(*runtime.Scheme) error { return nil }
