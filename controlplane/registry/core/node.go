package core

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"coracle/controlplane/api/core"
	"coracle/controlplane/registry/kind"
)

// Nodes describes nodes. A node registers itself with its status, so creation keeps it.
func Nodes() kind.Kind[*corev1.Node] {
	return kind.Kind[*corev1.Node]{
		Versions: versions, Resource: "nodes", Singular: "node", Short: []string{"no"}, ClusterScoped: true,
		New:     func() *corev1.Node { return &corev1.Node{} },
		NewList: listOf[corev1.NodeList](),
		Fields: func(n *corev1.Node) fields.Set {
			return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
		},
		Indexed: []string{"metadata.name"},
		Main: kind.Strategy[*corev1.Node]{
			Update:   func(_ context.Context, obj, old *corev1.Node) { obj.Status = old.Status },
			Validate: core.ValidateNode, ValidateUpdate: core.ValidateNodeUpdate,
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*corev1.Node]{
			Update:         func(_ context.Context, obj, old *corev1.Node) { obj.Spec = old.Spec },
			ValidateUpdate: core.ValidateNodeStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}
