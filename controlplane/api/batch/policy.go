package batch

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	maxRules      = 20
	maxPatterns   = 20
	maxExitCodes  = 255
	maxIndexesLen = 64 << 10
)

func validateFailurePolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	rules := spec.PodFailurePolicy.Rules
	if len(rules) > maxRules {
		errs = append(errs, field.TooMany(path.Child("rules"), len(rules), maxRules))
	}
	names := map[string]bool{}
	for _, list := range [][]corev1.Container{spec.Template.Spec.Containers, spec.Template.Spec.InitContainers} {
		for i := range list {
			names[list[i].Name] = true
		}
	}
	for i := range rules {
		errs = append(errs, validateFailureRule(spec, &rules[i], names, path.Child("rules").Index(i))...)
	}
	return errs
}

func validateFailureRule(spec *batchv1.JobSpec, rule *batchv1.PodFailurePolicyRule, names map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	actions := []batchv1.PodFailurePolicyAction{
		batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore,
	}
	switch rule.Action {
	case "":
		errs = append(errs, field.Required(path.Child("action"), fmt.Sprintf("valid values: %q", actions)))
	case batchv1.PodFailurePolicyActionFailIndex:
		if spec.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(path.Child("action"), rule.Action, "requires the backoffLimitPerIndex to be set"))
		}
	case batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore:
	default:
		errs = append(errs, field.NotSupported(path.Child("action"), rule.Action, actions))
	}
	switch {
	case rule.OnExitCodes != nil && len(rule.OnPodConditions) > 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case rule.OnExitCodes == nil && len(rule.OnPodConditions) == 0:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	if rule.OnExitCodes != nil {
		errs = append(errs, validateExitCodes(rule.OnExitCodes, names, path.Child("onExitCodes"))...)
	}
	return append(errs, validatePatterns(rule.OnPodConditions, path.Child("onPodConditions"))...)
}

func validateExitCodes(r *batchv1.PodFailurePolicyOnExitCodesRequirement, names map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	switch r.Operator {
	case "":
		errs = append(errs, field.Required(path.Child("operator"), fmt.Sprintf("valid values: %q", operators)))
	case batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn:
	default:
		errs = append(errs, field.NotSupported(path.Child("operator"), r.Operator, operators))
	}
	if r.ContainerName != nil && !names[*r.ContainerName] {
		errs = append(errs, field.Invalid(path.Child("containerName"), *r.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	at := path.Child("values")
	switch {
	case len(r.Values) == 0:
		errs = append(errs, field.Invalid(at, r.Values, "at least one value is required"))
	case len(r.Values) > maxExitCodes:
		errs = append(errs, field.TooMany(at, len(r.Values), maxExitCodes))
	}
	seen, ordered := map[int32]bool{}, true
	for i, v := range r.Values {
		if r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn && v == 0 {
			errs = append(errs, field.Invalid(at.Index(i), v, "must not be 0 for the In operator"))
		}
		if seen[v] {
			errs = append(errs, field.Duplicate(at.Index(i), v))
		}
		seen[v] = true
		ordered = ordered && (i == 0 || r.Values[i-1] <= v)
	}
	if !ordered {
		errs = append(errs, field.Invalid(at, r.Values, "must be ordered"))
	}
	return errs
}

func validatePatterns(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(patterns) > maxPatterns {
		errs = append(errs, field.TooMany(path, len(patterns), maxPatterns))
	}
	statuses := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
	for i, p := range patterns {
		at := path.Index(i)
		errs = append(errs, metavalidation.ValidateLabelName(string(p.Type), at.Child("type"))...)
		switch p.Status {
		case "":
			errs = append(errs, field.Required(at.Child("status"), fmt.Sprintf("valid values: %q", statuses)))
		case corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown:
		default:
			errs = append(errs, field.NotSupported(at.Child("status"), p.Status, statuses))
		}
	}
	return errs
}

func validateSuccessPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if !indexed(spec) {
		return field.ErrorList{field.Invalid(path, *spec.SuccessPolicy, requiresIndexed)}
	}
	rules, at := spec.SuccessPolicy.Rules, path.Child("rules")
	if len(rules) == 0 {
		return field.ErrorList{field.Required(at, "at least one rules must be specified when the successPolicy is specified")}
	}
	var errs field.ErrorList
	if len(rules) > maxRules {
		errs = append(errs, field.TooMany(at, len(rules), maxRules))
	}
	if spec.Completions == nil {
		return errs // refused elsewhere; nothing can be counted
	}
	for i := range rules {
		errs = append(errs, validateSuccessRule(*spec.Completions, &rules[i], at.Index(i))...)
	}
	return errs
}

func validateSuccessRule(completions int32, rule *batchv1.SuccessPolicyRule, path *field.Path) field.ErrorList {
	if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
		return field.ErrorList{field.Required(path, "at least one of succeededCount or succeededIndexes must be specified")}
	}
	var errs field.ErrorList
	named := int32(0)
	if s := rule.SucceededIndexes; s != nil {
		at := path.Child("succeededIndexes")
		if len(*s) > maxIndexesLen {
			errs = append(errs, field.TooLong(at, "", maxIndexesLen))
		}
		var err error
		if named, err = CountIndexes(*s, completions); err != nil {
			errs = append(errs, field.Invalid(at, *s, "error parsing succeededIndexes: "+err.Error()))
		}
	}
	if c := rule.SucceededCount; c != nil {
		at := path.Child("succeededCount")
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*c), at)...)
		if *c > completions {
			errs = append(errs, field.Invalid(at, *c, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
		}
		if rule.SucceededIndexes != nil && *c > named {
			errs = append(errs, field.Invalid(at, *c, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", named)))
		}
	}
	return errs
}

// CountIndexes counts the indexes in a text such as "1,3-5,7": rising numbers and ranges, each below completions. Empty
// text is none.
func CountIndexes(text string, completions int32) (int32, error) {
	if text == "" {
		return 0, nil
	}
	total, next := int32(0), int32(0) // next is the least that may come
	for _, part := range strings.Split(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		from, err := index(first, completions)
		if err != nil {
			return 0, err
		}
		to := from
		if ranged {
			if to, err = index(last, completions); err != nil {
				return 0, err
			}
			if to <= from {
				return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", from, to)
			}
		}
		if from < next {
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", next-1, from)
		}
		total += to - from + 1
		next = to + 1
	}
	return total, nil
}

func index(text string, completions int32) (int32, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("index %q is no number of 32 bits", text)
	case err != nil:
		return 0, fmt.Errorf("cannot convert string to integer for index: %q", text)
	case n < 0 || int32(n) >= completions:
		return 0, fmt.Errorf("too large index: %q", text)
	}
	return int32(n), nil
}
