package core

import (
	"context"
	"strconv"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/api/core"
	"coracle/controlplane/registry/kind"
)

// ReplicationControllers describes replicationcontrollers. Deleting one keeps its pods unless the client says otherwise,
// as it was when only clients could delete pods.
func ReplicationControllers() kind.Kind[*corev1.ReplicationController] {
	return kind.Kind[*corev1.ReplicationController]{
		Versions: versions, Resource: "replicationcontrollers", Singular: "replicationcontroller",
		Short: []string{"rc"}, Categories: []string{"all"},
		New:     func() *corev1.ReplicationController { return &corev1.ReplicationController{} },
		NewList: listOf[corev1.ReplicationControllerList](),
		Fields: func(r *corev1.ReplicationController) fields.Set {
			return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
		},
		Main: kind.Strategy[*corev1.ReplicationController]{
			Create: func(_ context.Context, obj *corev1.ReplicationController) {
				obj.Status, obj.Generation = corev1.ReplicationControllerStatus{}, 1
			},
			Update: func(_ context.Context, obj, old *corev1.ReplicationController) {
				obj.Status = old.Status
				bump(obj, old, obj.Spec, old.Spec)
			},
			Validate: core.ValidateReplicationController, ValidateUpdate: core.ValidateReplicationControllerUpdate,
			Reset:      []string{"status"},
			Collection: rest.OrphanDependents,
		},
		Status: &kind.Strategy[*corev1.ReplicationController]{
			Update:         func(_ context.Context, obj, old *corev1.ReplicationController) { obj.Spec = old.Spec },
			ValidateUpdate: core.ValidateReplicationControllerStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// ReplicationControllerScale tells how replicationcontrollers are scaled.
func ReplicationControllerScale() kind.Scalable[*corev1.ReplicationController] {
	return kind.Scalable[*corev1.ReplicationController]{
		Scale: func(r *corev1.ReplicationController) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus, error) {
			spec := autoscalingv1.ScaleSpec{}
			if r.Spec.Replicas != nil {
				spec.Replicas = *r.Spec.Replicas
			}
			return spec, autoscalingv1.ScaleStatus{
				Replicas: r.Status.Replicas, Selector: labels.SelectorFromSet(r.Spec.Selector).String(),
			}, nil
		},
		Set: func(r *corev1.ReplicationController, n int32) { r.Spec.Replicas = &n },
	}
}
