package table

import (
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func storagePrinters() map[reflect.Type]printer {
	return map[reflect.Type]printer{
		typeOf[corev1.PersistentVolume](): of(columns(nameColumn, text("Capacity"), text("Access Modes"), text("Reclaim Policy"), text("Status"),
			text("Claim"), text("StorageClass"), text("VolumeAttributesClass"), text("Reason"), ageColumn, wide("VolumeMode")), volumeCells),
		typeOf[corev1.PersistentVolumeClaim](): of(columns(nameColumn, text("Status"), text("Volume"), text("Capacity"), text("Access Modes"),
			text("StorageClass"), text("VolumeAttributesClass"), ageColumn, wide("VolumeMode")), claimCells),
		typeOf[storagev1.StorageClass](): of(columns(nameColumn, text("Provisioner"), text("ReclaimPolicy"), text("VolumeBindingMode"),
			boolean("AllowVolumeExpansion"), ageColumn), classCells),
		typeOf[storagev1.CSINode](): of(columns(nameColumn, number("Drivers"), ageColumn),
			func(o *storagev1.CSINode, now time.Time) []any {
				return []any{o.Name, int64(len(o.Spec.Drivers)), age(o, now)}
			}),
		typeOf[storagev1.CSIDriver](): of(columns(nameColumn, boolean("AttachRequired"), boolean("PodInfoOnMount"), boolean("StorageCapacity"),
			text("TokenRequests"), boolean("RequiresRepublish"), text("Modes"), ageColumn), driverCells),
		typeOf[storagev1.VolumeAttachment](): of(columns(nameColumn, text("Attacher"), text("PV"), text("Node"), boolean("Attached"), ageColumn),
			func(o *storagev1.VolumeAttachment, now time.Time) []any {
				return []any{o.Name, o.Spec.Attacher, ptr.Deref(o.Spec.Source.PersistentVolumeName, ""), o.Spec.NodeName, o.Status.Attached, age(o, now)}
			}),
	}
}

// leaving is the status of something that is being deleted but held by a finalizer.
func leaving(o metav1.Object, phase string) string {
	if o.GetDeletionTimestamp() != nil {
		return "Terminating"
	}
	return phase
}

func volumeMode(mode *corev1.PersistentVolumeMode) string {
	return or(string(ptr.Deref(mode, "")), unset)
}

func volumeCells(o *corev1.PersistentVolume, now time.Time) []any {
	claim := ""
	if ref := o.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	size := o.Spec.Capacity[corev1.ResourceStorage]
	class := o.Spec.StorageClassName
	if class == "" {
		class = o.Annotations[corev1.BetaStorageClassAnnotation]
	}
	return []any{o.Name, size.String(), accessModes(o.Spec.AccessModes), string(o.Spec.PersistentVolumeReclaimPolicy),
		leaving(o, string(o.Status.Phase)), claim, class, or(ptr.Deref(o.Spec.VolumeAttributesClassName, ""), unset), o.Status.Reason,
		age(o, now), volumeMode(o.Spec.VolumeMode)}
}

func claimCells(o *corev1.PersistentVolumeClaim, now time.Time) []any {
	size, modes := "", ""
	if o.Spec.VolumeName != "" {
		modes = accessModes(o.Status.AccessModes)
		storage := o.Status.Capacity[corev1.ResourceStorage]
		size = storage.String()
	}
	class := ptr.Deref(o.Spec.StorageClassName, o.Annotations[corev1.BetaStorageClassAnnotation])
	return []any{o.Name, leaving(o, string(o.Status.Phase)), o.Spec.VolumeName, size, modes, class,
		or(ptr.Deref(o.Spec.VolumeAttributesClassName, ""), unset), age(o, now), volumeMode(o.Spec.VolumeMode)}
}

func classCells(o *storagev1.StorageClass, now time.Time) []any {
	name := o.Name
	if o.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
		name += " (default)"
	}
	return []any{name, o.Provisioner, string(ptr.Deref(o.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)),
		string(ptr.Deref(o.VolumeBindingMode, storagev1.VolumeBindingImmediate)), ptr.Deref(o.AllowVolumeExpansion, false), age(o, now)}
}

func driverCells(o *storagev1.CSIDriver, now time.Time) []any {
	var modes, audiences []string
	for _, mode := range o.Spec.VolumeLifecycleModes {
		modes = append(modes, string(mode))
	}
	for _, request := range o.Spec.TokenRequests {
		audiences = append(audiences, request.Audience)
	}
	tokens := unset
	if o.Spec.TokenRequests != nil {
		tokens = strings.Join(audiences, ",")
	}
	return []any{o.Name, ptr.Deref(o.Spec.AttachRequired, true), ptr.Deref(o.Spec.PodInfoOnMount, false), ptr.Deref(o.Spec.StorageCapacity, false),
		tokens, ptr.Deref(o.Spec.RequiresRepublish, false), or(strings.Join(modes, ","), none), age(o, now)}
}
