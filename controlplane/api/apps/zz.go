// Package apps holds the defaults and validation of its API group.
package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateDeployment judges an object about to be created.
func ValidateDeployment(*appsv1.Deployment) field.ErrorList { return nil }

// ValidateDeploymentUpdate judges an update.
func ValidateDeploymentUpdate(_, _ *appsv1.Deployment) field.ErrorList { return nil }

// ValidateDeploymentStatusUpdate judges an update of the status.
func ValidateDeploymentStatusUpdate(_, _ *appsv1.Deployment) field.ErrorList { return nil }

// ValidateReplicaSet judges an object about to be created.
func ValidateReplicaSet(*appsv1.ReplicaSet) field.ErrorList { return nil }

// ValidateReplicaSetUpdate judges an update.
func ValidateReplicaSetUpdate(_, _ *appsv1.ReplicaSet) field.ErrorList { return nil }

// ValidateReplicaSetStatusUpdate judges an update of the status.
func ValidateReplicaSetStatusUpdate(_, _ *appsv1.ReplicaSet) field.ErrorList { return nil }

// ValidateDaemonSet judges an object about to be created.
func ValidateDaemonSet(*appsv1.DaemonSet) field.ErrorList { return nil }

// ValidateDaemonSetUpdate judges an update.
func ValidateDaemonSetUpdate(_, _ *appsv1.DaemonSet) field.ErrorList { return nil }

// ValidateDaemonSetStatusUpdate judges an update of the status.
func ValidateDaemonSetStatusUpdate(_, _ *appsv1.DaemonSet) field.ErrorList { return nil }

// ValidateStatefulSet judges an object about to be created.
func ValidateStatefulSet(*appsv1.StatefulSet) field.ErrorList { return nil }

// ValidateStatefulSetUpdate judges an update.
func ValidateStatefulSetUpdate(_, _ *appsv1.StatefulSet) field.ErrorList { return nil }

// ValidateStatefulSetStatusUpdate judges an update of the status.
func ValidateStatefulSetStatusUpdate(_, _ *appsv1.StatefulSet) field.ErrorList { return nil }

// ValidateControllerRevision judges an object about to be created.
func ValidateControllerRevision(*appsv1.ControllerRevision) field.ErrorList { return nil }

// ValidateControllerRevisionUpdate judges an update.
func ValidateControllerRevisionUpdate(_, _ *appsv1.ControllerRevision) field.ErrorList { return nil }
