package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateReplicationController judges a replication controller about to be created.
func ValidateReplicationController(rc *corev1.ReplicationController) field.ErrorList {
	errs := validateMeta(&rc.ObjectMeta, true, subdomainName)
	return append(errs, validateReplicationSpec(&rc.Spec)...)
}

func validateReplicationSpec(spec *corev1.ReplicationControllerSpec) field.ErrorList {
	errs := nonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))
	if len(spec.Selector) == 0 {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	}
	if spec.Replicas == nil {
		errs = append(errs, field.Required(specPath.Child("replicas"), ""))
	} else {
		errs = append(errs, nonNegative(*spec.Replicas, specPath.Child("replicas"))...)
	}
	if spec.Template == nil {
		return append(errs, field.Required(specPath.Child("template"), ""))
	}
	var selector labels.Selector
	if len(spec.Selector) > 0 {
		selector = labels.SelectorFromSet(spec.Selector)
	}
	return append(errs, ValidateReplicaTemplate(spec.Template, selector, "ReplicationController", specPath.Child("template"))...)
}

// ValidateReplicaTemplate judges the template of a workload that keeps pods
// running: its labels match the selector (nil: not checked), and its pods restart
// always and have no deadline. kind is the workload's kind, for the errors.
func ValidateReplicaTemplate(t *corev1.PodTemplateSpec, selector labels.Selector, kind string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if selector != nil && !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, ValidatePodTemplateSpec(t, path)...)
	if p := t.Spec.RestartPolicy; p != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+kind+" is not Supported"))
	}
	return errs
}

// ValidateReplicationControllerUpdate judges an update.
func ValidateReplicationControllerUpdate(rc, old *corev1.ReplicationController) field.ErrorList {
	errs := validateMetaUpdate(&rc.ObjectMeta, &old.ObjectMeta)
	return append(errs, validateReplicationSpec(&rc.Spec)...)
}

// ReplicaCounts are the numbers in the status of a workload.
type ReplicaCounts struct {
	Replicas, FullyLabeled, Ready, Available int32
	Terminating                              *int32
	ObservedGeneration                       int64
}

// ValidateReplicaCounts wants counts that can be: none below zero, and none above
// the number of replicas.
func ValidateReplicaCounts(c ReplicaCounts, path *field.Path) field.ErrorList {
	errs := nonNegative(c.Replicas, path.Child("replicas"))
	errs = append(errs, nonNegative(c.FullyLabeled, path.Child("fullyLabeledReplicas"))...)
	errs = append(errs, nonNegative(c.Ready, path.Child("readyReplicas"))...)
	errs = append(errs, nonNegative(c.Available, path.Child("availableReplicas"))...)
	errs = append(errs, nonNegativePointer(c.Terminating, path.Child("terminatingReplicas"))...)
	errs = append(errs, nonNegative(c.ObservedGeneration, path.Child("observedGeneration"))...)
	for _, f := range []struct {
		name  string
		count int32
	}{{"fullyLabeledReplicas", c.FullyLabeled}, {"readyReplicas", c.Ready}, {"availableReplicas", c.Available}} {
		if f.count > c.Replicas {
			errs = append(errs, field.Invalid(path.Child(f.name), f.count, "cannot be greater than status.replicas"))
		}
	}
	if c.Available > c.Ready {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), c.Available, "cannot be greater than readyReplicas"))
	}
	return errs
}

// ValidateReplicationControllerStatusUpdate judges an update of the status.
func ValidateReplicationControllerStatusUpdate(rc, old *corev1.ReplicationController) field.ErrorList {
	errs := validateMetaUpdate(&rc.ObjectMeta, &old.ObjectMeta)
	return append(errs, ValidateReplicaCounts(ReplicaCounts{
		Replicas: rc.Status.Replicas, FullyLabeled: rc.Status.FullyLabeledReplicas, Ready: rc.Status.ReadyReplicas,
		Available: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
	}, statusPath)...)
}
