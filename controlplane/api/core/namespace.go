package core

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateNamespace judges a namespace about to be created.
func ValidateNamespace(n *corev1.Namespace) field.ErrorList {
	errs := validateMeta(&n.ObjectMeta, false, labelName)
	return append(errs, validateNamespaceFinalizers(n)...)
}

// validateNamespaceFinalizers wants qualified names; one without a domain must be
// the system's own.
func validateNamespaceFinalizers(n *corev1.Namespace) field.ErrorList {
	var errs field.ErrorList
	for i, f := range n.Spec.Finalizers {
		at := specPath.Child("finalizers")
		found := validateQualifiedName(string(f), at)
		if len(found) == 0 && !strings.Contains(string(f), "/") && f != corev1.FinalizerKubernetes {
			found = field.ErrorList{field.Invalid(at.Index(i), f, "name is neither a standard finalizer name nor is it fully qualified")}
		}
		errs = append(errs, found...)
	}
	return errs
}

// ValidateNamespaceUpdate judges an update. Finalizers change through /finalize.
func ValidateNamespaceUpdate(n, old *corev1.Namespace) field.ErrorList {
	return validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
}

// ValidateNamespaceStatusUpdate judges an update of the status: a namespace is
// terminating when, and only when, it is being deleted.
func ValidateNamespaceStatusUpdate(n, old *corev1.Namespace) field.ErrorList {
	errs := validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	if n.DeletionTimestamp.IsZero() && n.Status.Phase != corev1.NamespaceActive {
		errs = append(errs, field.Invalid(statusPath.Child("Phase"), n.Status.Phase, "may only be 'Active' if `deletionTimestamp` is empty"))
	}
	if !n.DeletionTimestamp.IsZero() && n.Status.Phase != corev1.NamespaceTerminating {
		errs = append(errs, field.Invalid(statusPath.Child("Phase"), n.Status.Phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"))
	}
	return errs
}

// ValidateNamespaceFinalizeUpdate judges an update through /finalize.
func ValidateNamespaceFinalizeUpdate(n, old *corev1.Namespace) field.ErrorList {
	errs := validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	return append(errs, validateNamespaceFinalizers(n)...)
}

// podScopeResources are what scopes of pods can count.
var podScopeResources = map[corev1.ResourceName]bool{
	corev1.ResourcePods: true, corev1.ResourceCPU: true, corev1.ResourceMemory: true, corev1.ResourceEphemeralStorage: true,
	corev1.ResourceRequestsCPU: true, corev1.ResourceRequestsMemory: true, corev1.ResourceRequestsEphemeralStorage: true,
	corev1.ResourceLimitsCPU: true, corev1.ResourceLimitsMemory: true, corev1.ResourceLimitsEphemeralStorage: true,
}

// ValidateResourceQuota judges a quota about to be created.
func ValidateResourceQuota(q *corev1.ResourceQuota) field.ErrorList {
	errs := validateMeta(&q.ObjectMeta, true, subdomainName)
	errs = append(errs, validateQuotaList(q.Spec.Hard, specPath.Child("hard"))...)
	return append(errs, validateQuotaScopes(&q.Spec, specPath)...)
}

func validateQuotaList(list corev1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range names(list) {
		at, q := path.Key(string(name)), list[name]
		errs = append(errs, validateQuotaName(name, at)...)
		errs = append(errs, validateQuantity(name, q, at)...)
	}
	return errs
}

// validateQuotaName wants a resource that a quota can count. Object counts
// (count/RESOURCE.GROUP) and storage classes carry a domain and are names of
// their own.
func validateQuotaName(name corev1.ResourceName, path *field.Path) field.ErrorList {
	errs := validateQualifiedName(string(name), path)
	if len(errs) == 0 && !strings.Contains(string(name), "/") && !isStandard(name) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource for quota"))
	}
	return errs
}

// ValidateResourceQuotaUpdate judges an update; scopes are as they were created.
func ValidateResourceQuotaUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	errs := validateMetaUpdate(&q.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateQuotaList(q.Spec.Hard, specPath.Child("hard"))...)
	if !equality.Semantic.DeepEqual(asSet(q.Spec.Scopes), asSet(old.Spec.Scopes)) {
		errs = append(errs, field.Invalid(specPath.Child("scopes"), q.Spec.Scopes, "field is immutable"))
	}
	return append(errs, validateQuotaScopes(&q.Spec, specPath)...)
}

func asSet(scopes []corev1.ResourceQuotaScope) map[corev1.ResourceQuotaScope]bool {
	set := map[corev1.ResourceQuotaScope]bool{}
	for _, s := range scopes {
		set[s] = true
	}
	return set
}

// ValidateResourceQuotaStatusUpdate judges an update of the status.
func ValidateResourceQuotaStatusUpdate(q, old *corev1.ResourceQuota) field.ErrorList {
	errs := validateMetaUpdate(&q.ObjectMeta, &old.ObjectMeta)
	if q.ResourceVersion == "" {
		errs = append(errs, field.Required(field.NewPath("resourceVersion"), ""))
	}
	errs = append(errs, validateQuotaList(q.Status.Hard, statusPath.Child("hard"))...)
	return append(errs, validateQuotaList(q.Status.Used, statusPath.Child("used"))...)
}

// quotaScopes are the scopes that exist.
var quotaScopes = []corev1.ResourceQuotaScope{
	corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
	corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity,
	corev1.ResourceQuotaScopeVolumeAttributesClass,
}

// validateQuotaScopes wants scopes that exist, that do not exclude each other, and
// that can count what the quota limits.
func validateQuotaScopes(spec *corev1.ResourceQuotaSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("scopes")
	for _, s := range spec.Scopes {
		errs = append(errs, validateQuotaScope(s, spec, at)...)
	}
	set := asSet(spec.Scopes)
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if set[pair[0]] && set[pair[1]] {
			errs = append(errs, field.Invalid(at, spec.Scopes, "conflicting scopes"))
		}
	}
	if spec.ScopeSelector == nil {
		return errs
	}
	at = path.Child("scopeSelector", "matchExpressions")
	for _, e := range spec.ScopeSelector.MatchExpressions {
		errs = append(errs, validateQuotaScope(e.ScopeName, spec, at.Child("scopeName"))...)
		switch e.Operator {
		case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
			if len(e.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
			}
		case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
			if len(e.Values) > 0 {
				errs = append(errs, field.Invalid(at.Child("values"), e.Values, "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector"))
			}
		default:
			errs = append(errs, field.Invalid(at.Child("operator"), e.Operator, "not a valid selector operator"))
		}
		if e.ScopeName != corev1.ResourceQuotaScopePriorityClass && e.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass && e.Operator != corev1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), e.Operator, "must be 'Exist' when scope is any of Terminating, NotTerminating, BestEffort, NotBestEffort and CrossNamespacePodAffinity"))
		}
	}
	return errs
}

func validateQuotaScope(s corev1.ResourceQuotaScope, spec *corev1.ResourceQuotaSpec, path *field.Path) field.ErrorList {
	errs := oneOf(s, path, quotaScopes...)
	if len(errs) > 0 {
		return errs
	}
	for _, name := range names(spec.Hard) {
		switch {
		case s == corev1.ResourceQuotaScopeVolumeAttributesClass:
		case s == corev1.ResourceQuotaScopeBestEffort && name != corev1.ResourcePods && isStandard(name):
			errs = append(errs, field.Invalid(path, spec.Scopes, "unsupported scope applied to resource"))
		case isStandard(name) && !podScopeResources[name] && !isHugePage(name):
			errs = append(errs, field.Invalid(path, spec.Scopes, "unsupported scope applied to resource"))
		}
	}
	return errs
}
