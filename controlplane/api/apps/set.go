package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/core"
)

// ValidateDaemonSet judges a daemon set about to be created.
func ValidateDaemonSet(d *appsv1.DaemonSet) field.ErrorList {
	return append(validateMeta(&d.ObjectMeta), validateDaemonSetSpec(&d.Spec)...)
}

func validateDaemonSetSpec(spec *appsv1.DaemonSetSpec) field.ErrorList {
	selector, errs := validateSelector(spec.Selector, specPath.Child("selector"))
	errs = append(errs, core.ValidateReplicaTemplate(&spec.Template, selector, "DaemonSet", specPath.Child("template"))...)
	errs = append(errs, nonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	errs = append(errs, nonNegativePointer(spec.RevisionHistoryLimit, specPath.Child("revisionHistoryLimit"))...)
	return append(errs, validateDaemonSetStrategy(&spec.UpdateStrategy, specPath.Child("updateStrategy"))...)
}

func validateDaemonSetStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return field.ErrorList{field.NotSupported(path, s.Type, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
	}
	at := path.Child("rollingUpdate")
	if s.RollingUpdate == nil || s.RollingUpdate.MaxUnavailable == nil || s.RollingUpdate.MaxSurge == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	down, up := *s.RollingUpdate.MaxUnavailable, *s.RollingUpdate.MaxSurge
	var errs field.ErrorList
	for _, f := range []struct {
		name  string
		value intstr.IntOrString
	}{{"maxUnavailable", down}, {"maxSurge", up}} {
		errs = append(errs, core.ValidateIntOrPercent(f.value, at.Child(f.name))...)
		errs = append(errs, core.ValidateAtMostAll(f.value, at.Child(f.name))...)
	}
	switch {
	case !core.IsZero(down) && !core.IsZero(up):
		errs = append(errs, field.Invalid(at.Child("maxSurge"), up, "may not be set when maxUnavailable is non-zero"))
	case core.IsZero(down) && core.IsZero(up):
		errs = append(errs, field.Required(at.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

// ValidateDaemonSetUpdate judges an update; the selector stays.
func ValidateDaemonSetUpdate(d, old *appsv1.DaemonSet) field.ErrorList {
	errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateDaemonSetSpec(&d.Spec)...)
	return append(errs, apivalidation.ValidateImmutableField(d.Spec.Selector, old.Spec.Selector, specPath.Child("selector"))...)
}

// ValidateDaemonSetStatusUpdate judges an update of the status.
func ValidateDaemonSetStatusUpdate(d, old *appsv1.DaemonSet) field.ErrorList {
	st := &d.Status
	errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	for _, f := range []struct {
		name  string
		count int32
	}{
		{"currentNumberScheduled", st.CurrentNumberScheduled}, {"numberMisscheduled", st.NumberMisscheduled},
		{"desiredNumberScheduled", st.DesiredNumberScheduled}, {"numberReady", st.NumberReady},
		{"updatedNumberScheduled", st.UpdatedNumberScheduled}, {"numberAvailable", st.NumberAvailable}, {"numberUnavailable", st.NumberUnavailable},
	} {
		errs = append(errs, nonNegative(f.count, statusPath.Child(f.name))...)
	}
	errs = append(errs, nonNegative(st.ObservedGeneration, statusPath.Child("observedGeneration"))...)
	return append(errs, validateCollisions(st.CollisionCount, old.Status.CollisionCount)...)
}

// ValidateStatefulSet judges a stateful set about to be created. Its name becomes
// a host name, so it must be a label.
func ValidateStatefulSet(s *appsv1.StatefulSet) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&s.ObjectMeta, true, apivalidation.NameIsDNSLabel, metaPath)
	return append(errs, validateStatefulSetSpec(&s.Spec)...)
}

func validateStatefulSetSpec(spec *appsv1.StatefulSetSpec) field.ErrorList {
	var errs field.ErrorList
	switch p := spec.PodManagementPolicy; p {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	case "":
		errs = append(errs, field.Required(specPath.Child("podManagementPolicy"), ""))
	default:
		errs = append(errs, field.Invalid(specPath.Child("podManagementPolicy"), p, "must be '"+string(appsv1.OrderedReadyPodManagement)+"' or '"+string(appsv1.ParallelPodManagement)+"'"))
	}
	errs = append(errs, validateStatefulStrategy(&spec.UpdateStrategy, specPath.Child("updateStrategy"))...)
	errs = append(errs, nonNegativePointer(spec.Replicas, specPath.Child("replicas"))...)
	errs = append(errs, nonNegative(spec.MinReadySeconds, specPath.Child("minReadySeconds"))...)
	errs = append(errs, nonNegativePointer(spec.RevisionHistoryLimit, specPath.Child("revisionHistoryLimit"))...)
	if spec.Ordinals != nil {
		errs = append(errs, nonNegative(spec.Ordinals.Start, specPath.Child("ordinals", "start"))...)
	}
	if r := spec.PersistentVolumeClaimRetentionPolicy; r != nil {
		for _, f := range []struct {
			name   string
			policy appsv1.PersistentVolumeClaimRetentionPolicyType
		}{{"whenDeleted", r.WhenDeleted}, {"whenScaled", r.WhenScaled}} {
			if f.policy != appsv1.RetainPersistentVolumeClaimRetentionPolicyType && f.policy != appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
				errs = append(errs, field.NotSupported(specPath.Child("persistentVolumeClaimRetentionPolicy", f.name), f.policy,
					[]appsv1.PersistentVolumeClaimRetentionPolicyType{appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType}))
			}
		}
	}
	selector, selectorErrs := validateSelector(spec.Selector, specPath.Child("selector"))
	errs = append(errs, selectorErrs...)
	// Pods may mount the set's claims, whose volumes the controller adds to the
	// template: the template is judged with them.
	template := spec.Template.DeepCopy()
	for i := range spec.VolumeClaimTemplates {
		template.Spec.Volumes = addClaimVolume(template.Spec.Volumes, spec.VolumeClaimTemplates[i].Name)
	}
	return append(errs, core.ValidateReplicaTemplate(template, selector, "StatefulSet", specPath.Child("template"))...)
}

// addClaimVolume adds the volume of a claim template unless the name is taken.
func addClaimVolume(volumes []corev1.Volume, name string) []corev1.Volume {
	for i := range volumes {
		if volumes[i].Name == name {
			return volumes
		}
	}
	return append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
	}})
}

func validateStatefulStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) field.ErrorList {
	at := path.Child("rollingUpdate")
	switch s.Type {
	case "":
		return field.ErrorList{field.Required(path, "")}
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(at, s.RollingUpdate, "only allowed for updateStrategy 'RollingUpdate'")}
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if r := s.RollingUpdate; r != nil {
			errs := nonNegativePointer(r.Partition, at.Child("partition"))
			if r.MaxUnavailable != nil {
				errs = append(errs, core.ValidateIntOrPercent(*r.MaxUnavailable, at.Child("maxUnavailable"))...)
				errs = append(errs, core.ValidateAtMostAll(*r.MaxUnavailable, at.Child("maxUnavailable"))...)
				if core.IsZero(*r.MaxUnavailable) {
					errs = append(errs, field.Invalid(at.Child("maxUnavailable"), *r.MaxUnavailable, "cannot be 0"))
				}
			}
			return errs
		}
	default:
		return field.ErrorList{field.Invalid(path, s.Type, "must be 'RollingUpdate' or 'OnDelete'")}
	}
	return nil
}

// ValidateStatefulSetUpdate judges an update; most of the spec stays.
func ValidateStatefulSetUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	errs := validateMetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateStatefulSetSpec(&s.Spec)...)
	rest := s.Spec.DeepCopy()
	rest.Replicas = old.Spec.Replicas
	rest.Ordinals = old.Spec.Ordinals
	rest.Template = old.Spec.Template
	rest.UpdateStrategy = old.Spec.UpdateStrategy
	rest.MinReadySeconds = old.Spec.MinReadySeconds
	rest.RevisionHistoryLimit = old.Spec.RevisionHistoryLimit
	rest.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"))
	}
	return errs
}

// ValidateStatefulSetStatusUpdate judges an update of the status.
func ValidateStatefulSetStatusUpdate(s, old *appsv1.StatefulSet) field.ErrorList {
	st := &s.Status
	errs := validateMetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, core.ValidateReplicaCounts(core.ReplicaCounts{
		Replicas: st.Replicas, Ready: st.ReadyReplicas, Available: st.AvailableReplicas, ObservedGeneration: st.ObservedGeneration,
	}, statusPath)...)
	for _, f := range []struct {
		name  string
		count int32
	}{{"currentReplicas", st.CurrentReplicas}, {"updatedReplicas", st.UpdatedReplicas}} {
		errs = append(errs, nonNegative(f.count, statusPath.Child(f.name))...)
		if f.count > st.Replicas {
			errs = append(errs, field.Invalid(statusPath.Child(f.name), f.count, "cannot be greater than status.replicas"))
		}
	}
	return append(errs, validateCollisions(st.CollisionCount, old.Status.CollisionCount)...)
}

// ValidateControllerRevision judges a revision about to be created.
func ValidateControllerRevision(r *appsv1.ControllerRevision) field.ErrorList {
	errs := validateMeta(&r.ObjectMeta)
	if r.Data.Raw == nil && r.Data.Object == nil {
		errs = append(errs, field.Required(field.NewPath("data"), "data is mandatory"))
	}
	return append(errs, nonNegative(r.Revision, field.NewPath("revision"))...)
}

// ValidateControllerRevisionUpdate judges an update; the data stays.
func ValidateControllerRevisionUpdate(r, old *appsv1.ControllerRevision) field.ErrorList {
	errs := ValidateControllerRevision(r)
	errs = append(errs, validateMetaUpdate(&r.ObjectMeta, &old.ObjectMeta)...)
	return append(errs, apivalidation.ValidateImmutableField(r.Data, old.Data, field.NewPath("data"))...)
}
