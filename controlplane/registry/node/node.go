// Package node serves runtimeclasses.
package node

import (
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/node"
	"coracle/controlplane/registry/kind"
)

// RuntimeClasses describes runtimeclasses.
func RuntimeClasses() kind.Kind[*nodev1.RuntimeClass] {
	return kind.Kind[*nodev1.RuntimeClass]{
		Group: nodev1.GroupName, Versions: []string{nodev1.SchemeGroupVersion.String()},
		Resource: "runtimeclasses", Singular: "runtimeclass", ClusterScoped: true,
		New:     func() *nodev1.RuntimeClass { return &nodev1.RuntimeClass{} },
		NewList: func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Main: kind.Strategy[*nodev1.RuntimeClass]{
			Validate: node.ValidateRuntimeClass, ValidateUpdate: node.ValidateRuntimeClassUpdate,
			Conditional: true,
		},
	}
}
