package core

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// updatablePodFields is what the error of a refused update lists.
var updatablePodFields = strings.Join([]string{
	"`spec.containers[*].image`",
	"`spec.initContainers[*].image`",
	"`spec.activeDeadlineSeconds`",
	"`spec.tolerations` (only additions to existing tolerations)",
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
}, ",")

// ValidatePodUpdate judges an update of a pod. Nearly all of a pod's spec is as it
// was created; a pod that waits behind scheduling gates may be narrowed further.
func ValidatePodUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validatePodMetaAndSpec(p)...)
	errs = append(errs, validatePodAnnotationsUpdate(p, old)...)

	for _, list := range []struct {
		name     string
		now, was []corev1.Container
	}{{"containers", p.Spec.Containers, old.Spec.Containers}, {"initContainers", p.Spec.InitContainers, old.Spec.InitContainers}} {
		if len(list.now) != len(list.was) {
			return append(errs, field.Forbidden(specPath.Child(list.name), "pod updates may not add or remove containers"))
		}
	}
	errs = append(errs, validateDeadlineUpdate(p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds, specPath.Child("activeDeadlineSeconds"))...)
	errs = append(errs, validateAddedTolerations(p.Spec.Tolerations, old.Spec.Tolerations, specPath.Child("tolerations"))...)
	errs = append(errs, validateRemovedGates(p.Spec.SchedulingGates, old.Spec.SchedulingGates, specPath.Child("schedulingGates"))...)
	if equality.Semantic.DeepEqual(p.Spec, old.Spec) {
		return errs
	}

	rest := p.Spec.DeepCopy()
	restoreMutable(rest, &old.Spec)
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, validateGatedUpdate(rest, &old.Spec)...)
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatablePodFields, diff.Diff(*rest, old.Spec))))
	}
	return errs
}

// restoreMutable puts back what an update may change, so that what differs
// afterwards may not. What these fields may become is checked elsewhere.
func restoreMutable(spec, old *corev1.PodSpec) {
	for i := range spec.Containers {
		spec.Containers[i].Image = old.Containers[i].Image
	}
	for i := range spec.InitContainers {
		spec.InitContainers[i].Image = old.InitContainers[i].Image
	}
	spec.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	spec.SchedulingGates = old.SchedulingGates
	spec.Tolerations = old.Tolerations
	now, was := spec.TerminationGracePeriodSeconds, old.TerminationGracePeriodSeconds
	if now != nil && was != nil && *was < 0 && *now == 1 {
		spec.TerminationGracePeriodSeconds = was
	}
}

// validateDeadlineUpdate allows a deadline to be set, and to come nearer.
func validateDeadlineUpdate(now, old *int64, path *field.Path) field.ErrorList {
	switch {
	case now == nil && old != nil:
		return field.ErrorList{field.Invalid(path, now, "must not update from a positive integer to nil value")}
	case now == nil:
		return nil
	case *now < 0 || *now > math.MaxInt32:
		return field.ErrorList{field.Invalid(path, *now, validation.InclusiveRangeError(0, math.MaxInt32))}
	case old != nil && *now > *old:
		return field.ErrorList{field.Invalid(path, *now, "must be less than or equal to previous value")}
	}
	return nil
}

// validateAddedTolerations wants every old toleration still there; the time for
// which one holds may change.
func validateAddedTolerations(now, old []corev1.Toleration, path *field.Path) field.ErrorList {
	for _, was := range old {
		was.TolerationSeconds = nil
		kept := slices.ContainsFunc(now, func(t corev1.Toleration) bool {
			t.TolerationSeconds = nil
			return equality.Semantic.DeepEqual(t, was)
		})
		if !kept {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return ValidateTolerations(now, path)
}

// validateRemovedGates allows gates to be removed only.
func validateRemovedGates(now, old []corev1.PodSchedulingGate, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, g := range now {
		if !slices.Contains(old, g) {
			errs = append(errs, field.Forbidden(path.Index(i), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", g.Name)))
		}
	}
	return errs
}

// validateGatedUpdate allows a gated pod's choice of nodes to become narrower, and
// puts the allowed changes of spec back.
func validateGatedUpdate(spec, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for k, v := range old.NodeSelector {
		if now, ok := spec.NodeSelector[k]; !ok || now != v {
			errs = append(errs, field.Invalid(specPath.Child("nodeSelector"), spec.NodeSelector, "only additions are allowed (no mutations or deletions)"))
			break
		}
	}
	spec.NodeSelector = old.NodeSelector

	var now, was *corev1.NodeAffinity
	if spec.Affinity != nil {
		now = spec.Affinity.NodeAffinity
	}
	if old.Affinity != nil {
		was = old.Affinity.NodeAffinity
	}
	if equality.Semantic.DeepEqual(now, was) {
		return errs
	}
	errs = append(errs, validateNodeAffinityUpdate(now, was, specPath.Child("affinity", "nodeAffinity"))...)
	switch {
	case spec.Affinity == nil:
		spec.Affinity = old.Affinity.DeepCopy()
		spec.Affinity.PodAffinity, spec.Affinity.PodAntiAffinity = nil, nil
	case was == nil && old.Affinity == nil && spec.Affinity.PodAffinity == nil && spec.Affinity.PodAntiAffinity == nil:
		spec.Affinity = nil
	default:
		spec.Affinity.NodeAffinity = was
	}
	return errs
}

// validateNodeAffinityUpdate wants the required terms to stay and each to gain
// requirements at most. A pod without required terms may
// be given any.
func validateNodeAffinityUpdate(now, old *corev1.NodeAffinity, path *field.Path) field.ErrorList {
	if old == nil || old.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	at := path.Child(requiredTerms)
	if now == nil || now.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return field.ErrorList{field.Invalid(at, "", "may not be removed")}
	}
	was, is := old.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms, now.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	at = at.Child("nodeSelectorTerms")
	if len(was) != len(is) {
		return field.ErrorList{field.Invalid(at, is, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	var errs field.ErrorList
	for i := range was {
		if !narrows(&is[i], &was[i]) {
			errs = append(errs, field.Invalid(at.Index(i), is[i], "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

// narrows says whether a term has the requirements of the old one, and maybe more.
// An empty term matches nothing and may not begin to match.
func narrows(now, old *corev1.NodeSelectorTerm) bool {
	if len(old.MatchExpressions) == 0 && len(old.MatchFields) == 0 {
		return len(now.MatchExpressions) == 0 && len(now.MatchFields) == 0
	}
	return beginsWith(now.MatchExpressions, old.MatchExpressions) && beginsWith(now.MatchFields, old.MatchFields)
}

func beginsWith(now, old []corev1.NodeSelectorRequirement) bool {
	return len(now) >= len(old) && equality.Semantic.DeepEqual(now[:len(old):len(old)], old[:len(old):len(old)])
}
