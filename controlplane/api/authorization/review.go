// Package authorization holds the validation of access reviews.
package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var specPath = field.NewPath("spec")

// AddDefaults registers nothing: reviews have no defaults.
func AddDefaults(*runtime.Scheme) error { return nil }

// ValidateSubjectAccessReview judges a question about anybody's access.
func ValidateSubjectAccessReview(r *authorizationv1.SubjectAccessReview) field.ErrorList {
	return append(validateSubjectSpec(&r.Spec), validateEmptyMeta(r.ObjectMeta, false)...)
}

// ValidateSelfSubjectAccessReview judges a question about the caller's access.
func ValidateSelfSubjectAccessReview(r *authorizationv1.SelfSubjectAccessReview) field.ErrorList {
	errs := validateAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	return append(errs, validateEmptyMeta(r.ObjectMeta, false)...)
}

// ValidateLocalSubjectAccessReview judges a question about access in the
// namespace it is asked in.
func ValidateLocalSubjectAccessReview(r *authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	errs := validateSubjectSpec(&r.Spec)
	errs = append(errs, validateEmptyMeta(r.ObjectMeta, true)...)
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		errs = append(errs, field.Invalid(specPath.Child("resourceAttributes", "namespace"), a.Namespace, "must match metadata.namespace"))
	}
	if r.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(specPath.Child("nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	return errs
}

// ValidateSelfSubjectRulesReview judges a question about the caller's rules in a
// namespace.
func ValidateSelfSubjectRulesReview(r *authorizationv1.SelfSubjectRulesReview) field.ErrorList {
	if r.Spec.Namespace == "" {
		return field.ErrorList{field.Required(specPath.Child("namespace"), "")}
	}
	return nil
}

func validateSubjectSpec(spec *authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := validateAttributes(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(specPath.Child("user"), spec.User, "at least one of user or group must be specified"))
	}
	return errs
}

// validateAttributes wants a resource or a path, and not both.
func validateAttributes(resource *authorizationv1.ResourceAttributes, url *authorizationv1.NonResourceAttributes) field.ErrorList {
	var errs field.ErrorList
	if resource != nil && url != nil {
		errs = append(errs, field.Invalid(specPath.Child("nonResourceAttributes"), url, "cannot be specified in combination with resourceAttributes"))
	}
	if resource == nil && url == nil {
		errs = append(errs, field.Invalid(specPath.Child("resourceAttributes"), resource, "exactly one of nonResourceAttributes or resourceAttributes must be specified"))
	}
	if resource == nil {
		return errs
	}
	at := specPath.Child("resourceAttributes")
	if f := resource.FieldSelector; f != nil {
		path := at.Child("fieldSelector")
		errs = append(errs, validateSelectorForm(f.RawSelector, len(f.Requirements), path)...)
		for i, r := range f.Requirements {
			errs = append(errs, metavalidation.ValidateFieldSelectorRequirement(r, metavalidation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, path.Child("requirements").Index(i))...)
		}
	}
	if l := resource.LabelSelector; l != nil {
		path := at.Child("labelSelector")
		errs = append(errs, validateSelectorForm(l.RawSelector, len(l.Requirements), path)...)
		for i, r := range l.Requirements {
			errs = append(errs, metavalidation.ValidateLabelSelectorRequirement(r, metavalidation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, path.Child("requirements").Index(i))...)
		}
	}
	return errs
}

// validateSelectorForm wants a selector as text or taken apart.
func validateSelectorForm(raw string, requirements int, path *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(path.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(path.Child("requirements"), "a selector needs requirements or rawSelector")}
	}
	return nil
}

// validateEmptyMeta wants no metadata: reviews are answered and not stored.
func validateEmptyMeta(m metav1.ObjectMeta, namespaced bool) field.ErrorList {
	rest, must := m.DeepCopy(), "must be empty"
	rest.ManagedFields = nil
	if namespaced {
		rest.Namespace, must = "", "must be empty except for namespace"
	}
	if !equality.Semantic.DeepEqual(*rest, metav1.ObjectMeta{}) {
		return field.ErrorList{field.Invalid(field.NewPath("metadata"), m, must)}
	}
	return nil
}
