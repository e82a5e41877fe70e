// Package core holds the defaults and validation of its API group.
package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

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

// ValidatePersistentVolume judges an object about to be created.
func ValidatePersistentVolume(*corev1.PersistentVolume) field.ErrorList { return nil }

// ValidatePersistentVolumeUpdate judges an update.
func ValidatePersistentVolumeUpdate(_, _ *corev1.PersistentVolume) field.ErrorList { return nil }

// ValidatePersistentVolumeStatusUpdate judges an update of the status.
func ValidatePersistentVolumeStatusUpdate(_, _ *corev1.PersistentVolume) field.ErrorList { return nil }
