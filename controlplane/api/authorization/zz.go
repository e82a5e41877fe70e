// Package authorization holds the defaults and validation of its API group.
package authorization

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(*runtime.Scheme) error { return nil }

// ValidateSubjectAccessReview judges an object about to be created.
func ValidateSubjectAccessReview(*authorizationv1.SubjectAccessReview) field.ErrorList { return nil }

// ValidateSelfSubjectAccessReview judges an object about to be created.
func ValidateSelfSubjectAccessReview(*authorizationv1.SelfSubjectAccessReview) field.ErrorList {
	return nil
}

// ValidateLocalSubjectAccessReview judges an object about to be created.
func ValidateLocalSubjectAccessReview(*authorizationv1.LocalSubjectAccessReview) field.ErrorList {
	return nil
}

// ValidateSelfSubjectRulesReview judges an object about to be created.
func ValidateSelfSubjectRulesReview(*authorizationv1.SelfSubjectRulesReview) field.ErrorList {
	return nil
}
