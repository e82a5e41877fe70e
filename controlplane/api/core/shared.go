package core

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What other groups share with this one.

// ValidateIntOrPercent wants a number that is not negative, or a percentage.
func ValidateIntOrPercent(v intstr.IntOrString, path *field.Path) field.ErrorList {
	if v.Type == intstr.String {
		return invalidEach(path, v, validation.IsValidPercent(v.StrVal))
	}
	return nonNegative(v.IntVal, path)
}

// ValidateAtMostAll refuses a percentage above 100.
func ValidateAtMostAll(v intstr.IntOrString, path *field.Path) field.ErrorList {
	if n, ok := percent(v); ok && n > 100 {
		return field.ErrorList{field.Invalid(path, v, "must not be greater than 100%")}
	}
	return nil
}

// IsZero says whether a number or percentage is nothing at all.
func IsZero(v intstr.IntOrString) bool {
	if n, ok := percent(v); ok {
		return n == 0
	}
	return v.Type == intstr.Int && v.IntVal == 0
}

// percent reads a percentage; ok is false of anything else.
func percent(v intstr.IntOrString) (n int, ok bool) {
	if v.Type != intstr.String || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	return n, err == nil
}

// ValidateOverhead judges what a runtime class adds to each pod.
func ValidateOverhead(list corev1.ResourceList, path *field.Path) field.ErrorList {
	return validateResources(&corev1.ResourceRequirements{Limits: list}, nil, path)
}

// ValidatePreemptionPolicy judges a preemption policy; nil is none.
func ValidatePreemptionPolicy(p *corev1.PreemptionPolicy, path *field.Path) field.ErrorList {
	return oneOfPointer(p, path, corev1.PreemptLowerPriority, corev1.PreemptNever)
}
