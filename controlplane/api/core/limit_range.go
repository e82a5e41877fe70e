package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// limitTypes are the standard sorts of objects that a limit range bounds.
var limitTypes = []corev1.LimitType{corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim}

// ValidateLimitRange judges a limit range about to be created.
func ValidateLimitRange(l *corev1.LimitRange) field.ErrorList {
	errs := validateMeta(&l.ObjectMeta, true, subdomainName)
	seen := map[corev1.LimitType]bool{}
	for i := range l.Spec.Limits {
		item, at := &l.Spec.Limits[i], specPath.Child("limits").Index(i)
		errs = append(errs, validateLimitType(item.Type, at.Child("type"))...)
		if seen[item.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), item.Type))
		}
		seen[item.Type] = true
		errs = append(errs, validateLimitItem(item, at)...)
	}
	return errs
}

func validateLimitType(t corev1.LimitType, path *field.Path) field.ErrorList {
	errs := validateQualifiedName(string(t), path)
	if len(errs) == 0 && !strings.Contains(string(t), "/") && !slices.Contains(limitTypes, t) {
		errs = append(errs, field.Invalid(path, t, "must be a standard limit type or fully qualified"))
	}
	return errs
}

func validateLimitItem(item *corev1.LimitRangeItem, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if item.Type == corev1.LimitTypePod {
		if len(item.Default) > 0 {
			errs = append(errs, field.Forbidden(at.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(item.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(at.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		_, hasMin := item.Min[corev1.ResourceStorage]
		_, hasMax := item.Max[corev1.ResourceStorage]
		if !hasMin && !hasMax {
			errs = append(errs, field.Required(at.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	all := map[corev1.ResourceName]bool{}
	for _, part := range []struct {
		name string
		list corev1.ResourceList
	}{{"max", item.Max}, {"min", item.Min}, {"default", item.Default}, {"defaultRequest", item.DefaultRequest}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio}} {
		for _, name := range names(part.list) {
			all[name] = true
			path := at.Child(part.name).Key(string(name))
			if item.Type == corev1.LimitTypeContainer || item.Type == corev1.LimitTypePod {
				errs = append(errs, validateContainerResourceName(name, path)...)
			} else {
				errs = append(errs, validateResourceName(name, path)...)
			}
			errs = append(errs, validateQuantity(name, part.list[name], path)...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		errs = append(errs, validateLimitOrder(item, name, at)...)
	}
	return errs
}

// validateLimitOrder wants min ≤ defaultRequest ≤ default ≤ max of a resource, and
// a ratio of limit to request that is at least one and can be reached.
func validateLimitOrder(item *corev1.LimitRangeItem, name corev1.ResourceName, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	type bound struct {
		field string
		value resource.Quantity
		set   bool
	}
	get := func(field string, list corev1.ResourceList) bound {
		q, ok := list[name]
		return bound{field, q, ok}
	}
	low, high := get("min", item.Min), get("max", item.Max)
	request, limit := get("defaultRequest", item.DefaultRequest), get("default", item.Default)
	ordered := func(lesser, greater, blame bound) {
		if lesser.set && greater.set && lesser.value.Cmp(greater.value) > 0 {
			errs = append(errs, field.Invalid(at.Child(blame.field).Key(string(name)), blame.value.String(),
				fmt.Sprintf("%s value %s is greater than %s value %s", lesser.field, lesser.value.String(), greater.field, greater.value.String())))
		}
	}
	ordered(low, high, low)
	ordered(low, request, request)
	ordered(request, high, request)
	ordered(request, limit, request)
	ordered(low, limit, limit)
	ordered(limit, high, limit)
	ratio := get("maxLimitRequestRatio", item.MaxLimitRequestRatio)
	path := at.Child("maxLimitRequestRatio").Key(string(name))
	if ratio.set && ratio.value.Cmp(resource.MustParse("1")) < 0 {
		errs = append(errs, field.Invalid(path, ratio.value.String(), "ratio is less than 1"))
	}
	if ratio.set && low.set && high.set && low.value.Sign() > 0 {
		if most := high.value.AsApproximateFloat64() / low.value.AsApproximateFloat64(); ratio.value.AsApproximateFloat64() > most {
			errs = append(errs, field.Invalid(path, ratio.value.String(), fmt.Sprintf("ratio is greater than max/min = %f", most)))
		}
	}
	if !mayOvercommit(name) && request.set && limit.set && request.value.Cmp(limit.value) != 0 {
		errs = append(errs, field.Invalid(at.Child("defaultRequest").Key(string(name)), request.value.String(),
			fmt.Sprintf("default value %s must equal to defaultRequest value %s in %s", limit.value.String(), request.value.String(), name)))
	}
	return errs
}

// ValidateLimitRangeUpdate judges an update.
func ValidateLimitRangeUpdate(l, old *corev1.LimitRange) field.ErrorList {
	errs := validateMetaUpdate(&l.ObjectMeta, &old.ObjectMeta)
	return append(errs, ValidateLimitRange(l)...)
}
