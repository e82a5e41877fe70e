package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"coracle/controlplane/api/core"
	"coracle/controlplane/registry/kind"
)

// PersistentVolumes describes persistentvolumes.
func PersistentVolumes() kind.Kind[*corev1.PersistentVolume] {
	return kind.Kind[*corev1.PersistentVolume]{
		Versions: versions, Resource: "persistentvolumes", Singular: "persistentvolume", Short: []string{"pv"}, ClusterScoped: true,
		New:     func() *corev1.PersistentVolume { return &corev1.PersistentVolume{} },
		NewList: listOf[corev1.PersistentVolumeList](),
		Main: kind.Strategy[*corev1.PersistentVolume]{
			Create: func(_ context.Context, obj *corev1.PersistentVolume) {
				obj.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending}
			},
			Update:   func(_ context.Context, obj, old *corev1.PersistentVolume) { obj.Status = old.Status },
			Validate: core.ValidatePersistentVolume, ValidateUpdate: core.ValidatePersistentVolumeUpdate,
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*corev1.PersistentVolume]{
			Update:         func(_ context.Context, obj, old *corev1.PersistentVolume) { obj.Spec = old.Spec },
			ValidateUpdate: core.ValidatePersistentVolumeStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// PersistentVolumeClaims describes persistentvolumeclaims.
func PersistentVolumeClaims() kind.Kind[*corev1.PersistentVolumeClaim] {
	return kind.Kind[*corev1.PersistentVolumeClaim]{
		Versions: versions, Resource: "persistentvolumeclaims", Singular: "persistentvolumeclaim", Short: []string{"pvc"},
		New:     func() *corev1.PersistentVolumeClaim { return &corev1.PersistentVolumeClaim{} },
		NewList: listOf[corev1.PersistentVolumeClaimList](),
		Main: kind.Strategy[*corev1.PersistentVolumeClaim]{
			Create: func(_ context.Context, obj *corev1.PersistentVolumeClaim) {
				obj.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			},
			Update:   func(_ context.Context, obj, old *corev1.PersistentVolumeClaim) { obj.Status = old.Status },
			Validate: core.ValidatePersistentVolumeClaim, ValidateUpdate: core.ValidatePersistentVolumeClaimUpdate,
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*corev1.PersistentVolumeClaim]{
			Update:         func(_ context.Context, obj, old *corev1.PersistentVolumeClaim) { obj.Spec = old.Spec },
			ValidateUpdate: core.ValidatePersistentVolumeClaimStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}
