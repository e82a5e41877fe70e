package core

import (
	"strings"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// metaPath, specPath and statusPath are where most objects keep their parts.
var (
	metaPath   = field.NewPath("metadata")
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

// subdomainName and labelName are the rules that object names follow. Services are
// labels too: since 1.36 their names may begin with a digit.
var (
	subdomainName = apivalidation.NameIsDNSSubdomain
	labelName     = apivalidation.NameIsDNSLabel
)

// invalidEach makes one Invalid error of each message that a check gave.
func invalidEach(path *field.Path, value any, messages []string) field.ErrorList {
	var errs field.ErrorList
	for _, m := range messages {
		errs = append(errs, field.Invalid(path, value, m))
	}
	return errs
}

func validateDNSLabel(value string, path *field.Path) field.ErrorList {
	return invalidEach(path, value, validation.IsDNS1123Label(value))
}

func validateDNSSubdomain(value string, path *field.Path) field.ErrorList {
	return invalidEach(path, value, validation.IsDNS1123Subdomain(value))
}

func validateQualifiedName(value string, path *field.Path) field.ErrorList {
	return invalidEach(path, value, validation.IsQualifiedName(value))
}

// required says Required of an empty string.
func required(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

// oneOf says Required of an empty value and NotSupported of one not listed.
func oneOf[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return oneOfOrEmpty(value, path, allowed...)
}

// oneOfOrEmpty says NotSupported of a value that is neither empty nor listed.
func oneOfOrEmpty[T ~string](value T, path *field.Path, allowed ...T) field.ErrorList {
	if value == "" {
		return nil
	}
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return field.ErrorList{field.NotSupported(path, value, sets.List(sets.New(allowed...)))}
}

// oneOfPointer is oneOf for a field that may be nil.
func oneOfPointer[T ~string](value *T, path *field.Path, allowed ...T) field.ErrorList {
	if value == nil {
		return nil
	}
	return oneOf(*value, path, allowed...)
}

// nonNegative says Invalid of a number below zero.
func nonNegative[T ~int32 | ~int64](value T, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(int64(value), path)
}

// nonNegativePointer is nonNegative for a field that may be nil.
func nonNegativePointer[T ~int32 | ~int64](value *T, path *field.Path) field.ErrorList {
	if value == nil {
		return nil
	}
	return nonNegative(*value, path)
}

// immutable says Invalid of a field that an update changed.
func immutable(value, old any, path *field.Path) field.ErrorList {
	return apivalidation.ValidateImmutableField(value, old, path)
}

func validateMeta(m *metav1.ObjectMeta, namespaced bool, name apivalidation.ValidateNameFunc) field.ErrorList {
	return apivalidation.ValidateObjectMeta(m, namespaced, name, metaPath)
}

func validateMetaUpdate(m, old *metav1.ObjectMeta) field.ErrorList {
	return apivalidation.ValidateObjectMetaUpdate(m, old, metaPath)
}

func validateSelector(s *metav1.LabelSelector, path *field.Path) field.ErrorList {
	return metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, path)
}

// validateRelativePath wants a path that stays below its root.
func validateRelativePath(path string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(path, "/") {
		errs = append(errs, field.Invalid(at, path, "must be a relative path"))
	}
	return append(errs, validateNoBacksteps(path, at)...)
}

// validateNoBacksteps refuses ".." as an element of a path, also between
// backslashes as Windows writes them.
func validateNoBacksteps(path string, at *field.Path) field.ErrorList {
	for _, element := range strings.Split(strings.ReplaceAll(path, `\`, "/"), "/") {
		if element == ".." {
			return field.ErrorList{field.Invalid(at, path, "must not contain '..'")}
		}
	}
	return nil
}

// validateFilePath wants a relative path whose first element does not begin with
// "..", which the atomic writer of volumes keeps for itself.
func validateFilePath(path string, at *field.Path) field.ErrorList {
	errs := validateRelativePath(path, at)
	if strings.HasPrefix(path, "..") && !strings.HasPrefix(path, "../") && path != ".." {
		errs = append(errs, field.Invalid(at, path, "must not start with '..'"))
	}
	return errs
}

// strictIPs refuses addresses that some programs read as others do not: with
// leading zeros, or IPv4 inside IPv6.
const strictIPs = true
