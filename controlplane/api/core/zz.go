// Package core holds the defaults and validation of its API group.
package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateNamespace judges an object about to be created.
func ValidateNamespace(*corev1.Namespace) field.ErrorList { return nil }

// ValidateNamespaceUpdate judges an update.
func ValidateNamespaceUpdate(_, _ *corev1.Namespace) field.ErrorList { return nil }

// ValidateNamespaceStatusUpdate judges an update of the status.
func ValidateNamespaceStatusUpdate(_, _ *corev1.Namespace) field.ErrorList { return nil }

// ValidateNode judges an object about to be created.
func ValidateNode(*corev1.Node) field.ErrorList { return nil }

// ValidateNodeUpdate judges an update.
func ValidateNodeUpdate(_, _ *corev1.Node) field.ErrorList { return nil }

// ValidateNodeStatusUpdate judges an update of the status.
func ValidateNodeStatusUpdate(_, _ *corev1.Node) field.ErrorList { return nil }

// ValidatePod judges an object about to be created.
func ValidatePod(*corev1.Pod) field.ErrorList { return nil }

// ValidatePodUpdate judges an update.
func ValidatePodUpdate(_, _ *corev1.Pod) field.ErrorList { return nil }

// ValidatePodStatusUpdate judges an update of the status.
func ValidatePodStatusUpdate(_, _ *corev1.Pod) field.ErrorList { return nil }

// ValidatePodTemplate judges an object about to be created.
func ValidatePodTemplate(*corev1.PodTemplate) field.ErrorList { return nil }

// ValidatePodTemplateUpdate judges an update.
func ValidatePodTemplateUpdate(_, _ *corev1.PodTemplate) field.ErrorList { return nil }

// ValidateConfigMap judges an object about to be created.
func ValidateConfigMap(*corev1.ConfigMap) field.ErrorList { return nil }

// ValidateConfigMapUpdate judges an update.
func ValidateConfigMapUpdate(_, _ *corev1.ConfigMap) field.ErrorList { return nil }

// ValidateSecret judges an object about to be created.
func ValidateSecret(*corev1.Secret) field.ErrorList { return nil }

// ValidateSecretUpdate judges an update.
func ValidateSecretUpdate(_, _ *corev1.Secret) field.ErrorList { return nil }

// ValidateServiceAccount judges an object about to be created.
func ValidateServiceAccount(*corev1.ServiceAccount) field.ErrorList { return nil }

// ValidateServiceAccountUpdate judges an update.
func ValidateServiceAccountUpdate(_, _ *corev1.ServiceAccount) field.ErrorList { return nil }

// ValidateService judges an object about to be created.
func ValidateService(*corev1.Service) field.ErrorList { return nil }

// ValidateServiceUpdate judges an update.
func ValidateServiceUpdate(_, _ *corev1.Service) field.ErrorList { return nil }

// ValidateServiceStatusUpdate judges an update of the status.
func ValidateServiceStatusUpdate(_, _ *corev1.Service) field.ErrorList { return nil }

// ValidateEndpoints judges an object about to be created.
func ValidateEndpoints(*corev1.Endpoints) field.ErrorList { return nil }

// ValidateEndpointsUpdate judges an update.
func ValidateEndpointsUpdate(_, _ *corev1.Endpoints) field.ErrorList { return nil }

// ValidateEvent judges an object about to be created.
func ValidateEvent(*corev1.Event) field.ErrorList { return nil }

// ValidateEventUpdate judges an update.
func ValidateEventUpdate(_, _ *corev1.Event) field.ErrorList { return nil }

// ValidateReplicationController judges an object about to be created.
func ValidateReplicationController(*corev1.ReplicationController) field.ErrorList { return nil }

// ValidateReplicationControllerUpdate judges an update.
func ValidateReplicationControllerUpdate(_, _ *corev1.ReplicationController) field.ErrorList {
	return nil
}

// ValidateReplicationControllerStatusUpdate judges an update of the status.
func ValidateReplicationControllerStatusUpdate(_, _ *corev1.ReplicationController) field.ErrorList {
	return nil
}

// ValidateLimitRange judges an object about to be created.
func ValidateLimitRange(*corev1.LimitRange) field.ErrorList { return nil }

// ValidateLimitRangeUpdate judges an update.
func ValidateLimitRangeUpdate(_, _ *corev1.LimitRange) field.ErrorList { return nil }

// ValidateResourceQuota judges an object about to be created.
func ValidateResourceQuota(*corev1.ResourceQuota) field.ErrorList { return nil }

// ValidateResourceQuotaUpdate judges an update.
func ValidateResourceQuotaUpdate(_, _ *corev1.ResourceQuota) field.ErrorList { return nil }

// ValidateResourceQuotaStatusUpdate judges an update of the status.
func ValidateResourceQuotaStatusUpdate(_, _ *corev1.ResourceQuota) field.ErrorList { return nil }

// ValidatePersistentVolume judges an object about to be created.
func ValidatePersistentVolume(*corev1.PersistentVolume) field.ErrorList { return nil }

// ValidatePersistentVolumeUpdate judges an update.
func ValidatePersistentVolumeUpdate(_, _ *corev1.PersistentVolume) field.ErrorList { return nil }

// ValidatePersistentVolumeStatusUpdate judges an update of the status.
func ValidatePersistentVolumeStatusUpdate(_, _ *corev1.PersistentVolume) field.ErrorList { return nil }

// ValidatePersistentVolumeClaim judges an object about to be created.
func ValidatePersistentVolumeClaim(*corev1.PersistentVolumeClaim) field.ErrorList { return nil }

// ValidatePersistentVolumeClaimUpdate judges an update.
func ValidatePersistentVolumeClaimUpdate(_, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	return nil
}

// ValidatePersistentVolumeClaimStatusUpdate judges an update of the status.
func ValidatePersistentVolumeClaimStatusUpdate(_, _ *corev1.PersistentVolumeClaim) field.ErrorList {
	return nil
}

// ValidateBinding judges an object about to be created.
func ValidateBinding(*corev1.Binding) field.ErrorList { return nil }

// ValidateNamespaceFinalizeUpdate judges an update through the subresource.
func ValidateNamespaceFinalizeUpdate(_, _ *corev1.Namespace) field.ErrorList { return nil }

// ValidatePodEphemeralContainersUpdate judges an update through the subresource.
func ValidatePodEphemeralContainersUpdate(_, _ *corev1.Pod) field.ErrorList { return nil }

// ValidatePodResize judges an update through the subresource.
func ValidatePodResize(_, _ *corev1.Pod) field.ErrorList { return nil }

// ValidatePodLogOptions judges the options of a log request.
func ValidatePodLogOptions(*corev1.PodLogOptions) field.ErrorList { return nil }
