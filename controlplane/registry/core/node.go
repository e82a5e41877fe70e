package core

import (
	"context"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

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
			Update: func(_ context.Context, obj, old *corev1.Node) {
				obj.Spec = old.Spec
				core.SettleExtended(&obj.Status)
			},
			ValidateUpdate: core.ValidateNodeStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// ShowNodes is nodes as readers see them. A node's status is written when something changes and at no other time, so while
// the node is alive the heartbeat of the conditions that its agent reports is the present. alive may be nil.
func ShowNodes(nodes *kind.REST, alive func(node string) bool) *kind.Shown[corev1.Node] {
	return &kind.Shown[corev1.Node]{
		REST: nodes,
		Items: func(list runtime.Object) []corev1.Node {
			nodes, ok := list.(*corev1.NodeList)
			if !ok {
				return nil
			}
			return nodes.Items
		},
		Freshen: func(n *corev1.Node) {
			if alive != nil && alive(n.Name) {
				freshen(n, time.Now())
			}
		},
	}
}

// reported are the conditions that a node's agent vouches for.
var reported = map[corev1.NodeConditionType]bool{
	corev1.NodeReady: true, corev1.NodeMemoryPressure: true, corev1.NodeDiskPressure: true, corev1.NodePIDPressure: true,
}

func freshen(n *corev1.Node, now time.Time) {
	n.Status.Conditions = slices.Clone(n.Status.Conditions)
	for i := range n.Status.Conditions {
		c := &n.Status.Conditions[i]
		// One that is unknown was set by somebody who missed the node.
		if reported[c.Type] && c.Status != corev1.ConditionUnknown {
			c.LastHeartbeatTime = metav1.NewTime(now.Truncate(time.Second))
		}
	}
}
