// Package apps holds the defaults and validation of the workloads: Deployments,
// ReplicaSets, DaemonSets and StatefulSets.
package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/core"
)

var (
	metaPath   = field.NewPath("metadata")
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

func validateMeta(m *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMeta(m, true, apivalidation.NameIsDNSSubdomain, metaPath)
}

func validateMetaUpdate(m, old *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMetaUpdate(m, old, metaPath)
}

func nonNegative[T ~int32 | ~int64](v T, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(v), path)
}

// nonNegativePointer leaves nil, which is a count not given, alone.
func nonNegativePointer(v *int32, path *field.Path) field.ErrorList {
	if v == nil {
		return nil
	}
	return nonNegative(*v, path)
}

// validateSelector judges a workload's selector and returns it; nil when it cannot
// be used.
func validateSelector(s *metav1.LabelSelector, path *field.Path) (labels.Selector, field.ErrorList) {
	if s == nil {
		return nil, field.ErrorList{field.Required(path, "")}
	}
	errs := metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, path)
	if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path, s, "empty selector is invalid: it would select every pod"))
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		if len(errs) == 0 {
			errs = append(errs, field.Invalid(path, s, "invalid label selector"))
		}
		return nil, errs
	}
	return selector, errs
}

// ValidateDeployment judges a deployment about to be created.
func ValidateDeployment(d *appsv1.Deployment) field.ErrorList {
	return append(validateMeta(&d.ObjectMeta), validateDeploymentSpec(&d.Spec)...)
}

func validateDeploymentSpec(spec *appsv1.DeploymentSpec) field.ErrorList {
	errs := nonNegativePointer(spec.Replicas, specPath.Child("replicas"))
	selector, selectorErrs := validateSelector(spec.Selector, specPath.Child("selector"))
	errs = append(errs, selectorErrs...)
	errs = append(errs, core.ValidateReplicaTemplate(&spec.Template, selector, "ReplicaSet", specPath.Child("template"))...)
	errs = append(errs, validateStrategy(&spec.Strategy, specPath.Child("strategy"))...)
	errs = append(errs, nonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	errs = append(errs, nonNegativePointer(spec.RevisionHistoryLimit, specPath.Child("revisionHistoryLimit"))...)
	if p := spec.ProgressDeadlineSeconds; p != nil {
		at := specPath.Child("progressDeadlineSeconds")
		errs = append(errs, nonNegative(*p, at)...)
		if *p <= spec.MinReadySeconds {
			errs = append(errs, field.Invalid(at, *p, "must be greater than minReadySeconds"))
		}
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(at, "may not be specified when strategy `type` is 'Recreate'")}
		}
		return nil
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil || s.RollingUpdate.MaxUnavailable == nil || s.RollingUpdate.MaxSurge == nil {
			return field.ErrorList{field.Required(at, "")}
		}
	default:
		return field.ErrorList{field.NotSupported(path, s.Type, []appsv1.DeploymentStrategyType{appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType})}
	}
	down, up := *s.RollingUpdate.MaxUnavailable, *s.RollingUpdate.MaxSurge
	errs := core.ValidateIntOrPercent(down, at.Child("maxUnavailable"))
	errs = append(errs, core.ValidateIntOrPercent(up, at.Child("maxSurge"))...)
	if core.IsZero(down) && core.IsZero(up) {
		errs = append(errs, field.Invalid(at.Child("maxUnavailable"), down, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, core.ValidateAtMostAll(down, at.Child("maxUnavailable"))...)
}

// ValidateDeploymentUpdate judges an update; the selector stays.
func ValidateDeploymentUpdate(d, old *appsv1.Deployment) field.ErrorList {
	errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateDeploymentSpec(&d.Spec)...)
	return append(errs, apivalidation.ValidateImmutableField(d.Spec.Selector, old.Spec.Selector, specPath.Child("selector"))...)
}

// ValidateDeploymentStatusUpdate judges an update of the status.
func ValidateDeploymentStatusUpdate(d, old *appsv1.Deployment) field.ErrorList {
	st := &d.Status
	errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, core.ValidateReplicaCounts(core.ReplicaCounts{
		Replicas: st.Replicas, Ready: st.ReadyReplicas, Available: st.AvailableReplicas,
		Terminating: st.TerminatingReplicas, ObservedGeneration: st.ObservedGeneration,
	}, statusPath)...)
	errs = append(errs, nonNegative(st.UpdatedReplicas, statusPath.Child("updatedReplicas"))...)
	errs = append(errs, nonNegative(st.UnavailableReplicas, statusPath.Child("unavailableReplicas"))...)
	if st.UpdatedReplicas > st.Replicas {
		errs = append(errs, field.Invalid(statusPath.Child("updatedReplicas"), st.UpdatedReplicas, "cannot be greater than status.replicas"))
	}
	return append(errs, validateCollisions(st.CollisionCount, old.Status.CollisionCount)...)
}

// validateCollisions lets a count of hash collisions grow only.
func validateCollisions(now, old *int32) field.ErrorList {
	at := statusPath.Child("collisionCount")
	errs := nonNegativePointer(now, at)
	if old == nil {
		return errs
	}
	value := int32(0)
	if now != nil {
		value = *now
	}
	if value < *old {
		errs = append(errs, field.Invalid(at, value, "cannot be decremented"))
	}
	return errs
}

// ValidateReplicaSet judges a replica set about to be created.
func ValidateReplicaSet(r *appsv1.ReplicaSet) field.ErrorList {
	return append(validateMeta(&r.ObjectMeta), validateReplicaSetSpec(&r.Spec)...)
}

func validateReplicaSetSpec(spec *appsv1.ReplicaSetSpec) field.ErrorList {
	errs := nonNegativePointer(spec.Replicas, specPath.Child("replicas"))
	errs = append(errs, nonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	selector, selectorErrs := validateSelector(spec.Selector, specPath.Child("selector"))
	errs = append(errs, selectorErrs...)
	return append(errs, core.ValidateReplicaTemplate(&spec.Template, selector, "ReplicaSet", specPath.Child("template"))...)
}

// ValidateReplicaSetUpdate judges an update; the selector stays.
func ValidateReplicaSetUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	errs := validateMetaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateReplicaSetSpec(&r.Spec)...)
	return append(errs, apivalidation.ValidateImmutableField(r.Spec.Selector, old.Spec.Selector, specPath.Child("selector"))...)
}

// ValidateReplicaSetStatusUpdate judges an update of the status.
func ValidateReplicaSetStatusUpdate(r, old *appsv1.ReplicaSet) field.ErrorList {
	st := &r.Status
	errs := validateMetaUpdate(&r.ObjectMeta, &old.ObjectMeta)
	return append(errs, core.ValidateReplicaCounts(core.ReplicaCounts{
		Replicas: st.Replicas, FullyLabeled: st.FullyLabeledReplicas, Ready: st.ReadyReplicas, Available: st.AvailableReplicas,
		Terminating: st.TerminatingReplicas, ObservedGeneration: st.ObservedGeneration,
	}, statusPath)...)
}
