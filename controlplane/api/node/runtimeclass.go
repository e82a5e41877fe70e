// Package node holds the validation of RuntimeClasses.
package node

import (
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/core"
)

// AddDefaults registers nothing: a runtime class has no defaults.
func AddDefaults(*runtime.Scheme) error { return nil }

// ValidateRuntimeClass judges a class about to be created.
func ValidateRuntimeClass(r *nodev1.RuntimeClass) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&r.ObjectMeta, false, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	for _, m := range validation.IsDNS1123Label(r.Handler) {
		errs = append(errs, field.Invalid(field.NewPath("handler"), r.Handler, m))
	}
	if r.Overhead != nil {
		errs = append(errs, core.ValidateOverhead(r.Overhead.PodFixed, field.NewPath("overhead"))...)
	}
	s := r.Scheduling
	if s == nil {
		return errs
	}
	at := field.NewPath("scheduling")
	errs = append(errs, metavalidation.ValidateLabels(s.NodeSelector, at.Child("nodeSelector"))...)
	errs = append(errs, core.ValidateTolerations(s.Tolerations, at.Child("tolerations"))...)
	for i := range s.Tolerations {
		for j := range i {
			if equality.Semantic.DeepEqual(s.Tolerations[i], s.Tolerations[j]) {
				errs = append(errs, field.Duplicate(at.Child("tolerations").Index(i), s.Tolerations[i]))
				break
			}
		}
	}
	return errs
}

// ValidateRuntimeClassUpdate judges an update; the handler stays.
func ValidateRuntimeClassUpdate(r, old *nodev1.RuntimeClass) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaUpdate(&r.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	return append(errs, apivalidation.ValidateImmutableField(r.Handler, old.Handler, field.NewPath("handler"))...)
}
