// Package coordination serves leases.
package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/coordination"
	"coracle/controlplane/registry/kind"
)

// Leases describes leases. Updates must name the resourceVersion they were made from: a lease is a lock.
func Leases() kind.Kind[*coordinationv1.Lease] {
	return kind.Kind[*coordinationv1.Lease]{
		Group: coordinationv1.GroupName, Versions: []string{coordinationv1.SchemeGroupVersion.String()},
		Resource: "leases", Singular: "lease",
		New:     func() *coordinationv1.Lease { return &coordinationv1.Lease{} },
		NewList: func() runtime.Object { return &coordinationv1.LeaseList{} },
		Main: kind.Strategy[*coordinationv1.Lease]{
			Validate: coordination.ValidateLease, ValidateUpdate: coordination.ValidateLeaseUpdate,
			CreateOnUpdate: true, Conditional: true,
		},
	}
}
