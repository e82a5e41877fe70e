package batch

import (
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"coracle/controlplane/api/core"
)

const (
	// LegacyJobNameLabel and LegacyControllerUIDLabel are the labels of a job's pods without the prefix, as the first
	// clients looked for them. They are set beside those with it.
	LegacyJobNameLabel       = "job-name"
	LegacyControllerUIDLabel = "controller-uid"

	maxManagedBy = 63
	// maxIndexedParallelism and maxFailedIndexes bound what a job's status must list.
	maxIndexedParallelism = 100_000
	maxFailedIndexes      = 100_000
	// Above manyCompletions, with a back-off for each index, less may run and fail.
	manyCompletions            = 100_000
	maxParallelismOfMany       = 10_000
	maxFailedIndexesOfMany     = 10_000
	tooManyOfMany              = "must be less than or equal to %d when completions are above %d and used with backoff limit per index"
	requiresIndexed            = "requires indexed completion mode"
	selectorDoesNotMatchLabels = "`selector` does not match template `labels`"
)

var (
	metaPath   = field.NewPath("metadata")
	specPath   = field.NewPath("spec")
	statusPath = field.NewPath("status")
)

// ValidateJob judges a job about to be created, after its selector was generated.
func ValidateJob(j *batchv1.Job) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&j.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, metaPath)
	errs = append(errs, validateGeneratedSelector(j)...)
	errs = append(errs, validateWholeSpec(&j.Spec, specPath)...)
	if indexed(&j.Spec) && ptr.Deref(j.Spec.Completions, 0) > 0 {
		// The controller appends the index to make each pod's host name; the last is the longest.
		last := fmt.Sprintf("%s-%d", j.Name, *j.Spec.Completions-1)
		if len(validation.IsDNS1123Label(last)) > 0 {
			errs = append(errs, field.Invalid(metaPath.Child("name"), j.Name, "will not able to create pod with invalid DNS label: "+last))
		}
	}
	return errs
}

// validateGeneratedSelector wants the labels and the selector that GenerateSelector gives, which a user may have set
// otherwise.
func validateGeneratedSelector(j *batchv1.Job) field.ErrorList {
	if ptr.Deref(j.Spec.ManualSelector, false) || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	if j.UID == "" {
		errs = append(errs, field.Required(metaPath.Child("uid"), ""))
	}
	want := map[string]string{
		batchv1.ControllerUidLabel: string(j.UID), batchv1.JobNameLabel: j.Name,
		LegacyControllerUIDLabel: string(j.UID), LegacyJobNameLabel: j.Name,
	}
	at := specPath.Child("template", "metadata", "labels")
	for _, key := range []string{batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		value, ok := j.Spec.Template.Labels[key]
		switch {
		case !ok:
			errs = append(errs, field.Required(at.Key(key), fmt.Sprintf("must be '%s'", want[key])))
		case value != want[key]:
			errs = append(errs, field.Invalid(at.Key(key), j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", want[key])))
		}
	}
	if s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !s.Matches(labels.Set(want)) {
		errs = append(errs, field.Invalid(specPath.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

// GenerateSelector gives a job that leaves its selector to the server, and the pods of its template, labels that no other
// job has. Labels that the user set stay; validation judges them. It changes j, whose UID is set.
func GenerateSelector(j *batchv1.Job) {
	if ptr.Deref(j.Spec.ManualSelector, false) {
		return
	}
	if j.Spec.Template.Labels == nil {
		j.Spec.Template.Labels = map[string]string{}
	}
	for key, value := range map[string]string{
		batchv1.JobNameLabel: j.Name, LegacyJobNameLabel: j.Name,
		batchv1.ControllerUidLabel: string(j.UID), LegacyControllerUIDLabel: string(j.UID),
	} {
		if _, ok := j.Spec.Template.Labels[key]; !ok {
			j.Spec.Template.Labels[key] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, ok := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !ok {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
}

func validateWholeSpec(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	errs := validateSpec(spec, path)
	if spec.Selector == nil {
		return append(errs, field.Required(path.Child("selector"), ""))
	}
	errs = append(errs, metavalidation.ValidateLabelSelector(spec.Selector, metavalidation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	if s, err := metav1.LabelSelectorAsSelector(spec.Selector); err == nil && !s.Matches(labels.Set(spec.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), spec.Template.Labels, selectorDoesNotMatchLabels))
	}
	return errs
}

func indexed(spec *batchv1.JobSpec) bool {
	return ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

// validateSpec judges what jobs and the templates of cron jobs share.
func validateSpec(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", spec.Parallelism}, {"completions", spec.Completions}, {"backoffLimit", spec.BackoffLimit},
		{"ttlSecondsAfterFinished", spec.TTLSecondsAfterFinished}, {"backoffLimitPerIndex", spec.BackoffLimitPerIndex},
		{"maxFailedIndexes", spec.MaxFailedIndexes},
	} {
		if f.value != nil {
			errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*f.value), path.Child(f.name))...)
		}
	}
	if d := spec.ActiveDeadlineSeconds; d != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*d, path.Child("activeDeadlineSeconds"))...)
	}
	if spec.MaxFailedIndexes != nil && spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if m := spec.ManagedBy; m != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(path.Child("managedBy"), *m)...)
		if len(*m) > maxManagedBy {
			errs = append(errs, field.TooLong(path.Child("managedBy"), *m, maxManagedBy))
		}
	}
	errs = append(errs, validateCompletionMode(spec, path)...)
	if spec.PodFailurePolicy != nil {
		errs = append(errs, validateFailurePolicy(spec, path.Child("podFailurePolicy"))...)
	}
	if spec.SuccessPolicy != nil {
		errs = append(errs, validateSuccessPolicy(spec, path.Child("successPolicy"))...)
	}
	errs = append(errs, validateReplacementPolicy(spec, path.Child("podReplacementPolicy"))...)
	errs = append(errs, core.ValidatePodTemplateSpec(&spec.Template, path.Child("template"))...)
	return append(errs, validateRestartPolicy(spec, path.Child("template", "spec", "restartPolicy"))...)
}

func validateCompletionMode(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch mode := ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion); mode {
	case batchv1.IndexedCompletion:
		return validateIndexed(spec, path)
	case batchv1.NonIndexedCompletion:
		if v := spec.BackoffLimitPerIndex; v != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *v, requiresIndexed))
		}
		if v := spec.MaxFailedIndexes; v != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *v, requiresIndexed))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("completionMode"), mode, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}))
	}
	return errs
}

func validateIndexed(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if spec.Completions == nil {
		return field.ErrorList{field.Required(path.Child("completions"), "when completion mode is "+string(batchv1.IndexedCompletion))}
	}
	var errs field.ErrorList
	parallel, failed := ptr.Deref(spec.Parallelism, 0), ptr.Deref(spec.MaxFailedIndexes, 0)
	if parallel > maxIndexedParallelism {
		errs = append(errs, field.Invalid(path.Child("parallelism"), parallel,
			fmt.Sprintf("must be less than or equal to %d when completion mode is %s", maxIndexedParallelism, batchv1.IndexedCompletion)))
	}
	if failed > *spec.Completions {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), failed, "must be less than or equal to completions"))
	}
	if failed > maxFailedIndexes {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), failed, fmt.Sprintf("must be less than or equal to %d", maxFailedIndexes)))
	}
	if *spec.Completions <= manyCompletions || spec.BackoffLimitPerIndex == nil {
		return errs
	}
	if spec.MaxFailedIndexes == nil {
		errs = append(errs, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
	}
	if parallel > maxParallelismOfMany {
		errs = append(errs, field.Invalid(path.Child("parallelism"), parallel, fmt.Sprintf(tooManyOfMany, maxParallelismOfMany, manyCompletions)))
	}
	if failed > maxFailedIndexesOfMany {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), failed, fmt.Sprintf(tooManyOfMany, maxFailedIndexesOfMany, manyCompletions)))
	}
	return errs
}

func validateReplacementPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	p := spec.PodReplacementPolicy
	if p == nil || *p == batchv1.Failed || (*p == batchv1.TerminatingOrFailed && spec.PodFailurePolicy == nil) {
		return nil
	}
	allowed := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if spec.PodFailurePolicy != nil {
		allowed = allowed[:1] // a pod that is going may yet match a rule
	}
	return field.ErrorList{field.NotSupported(path, *p, allowed)}
}

func validateRestartPolicy(spec *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	p := spec.Template.Spec.RestartPolicy
	switch p {
	case corev1.RestartPolicyAlways, "": // the first is the default of all pods
		errs = append(errs, field.Required(path, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	case corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever:
	default:
		errs = append(errs, field.NotSupported(path, p, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}))
	}
	if spec.PodFailurePolicy != nil && p != corev1.RestartPolicyNever {
		errs = append(errs, field.Invalid(path, p, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
	}
	return errs
}

// ValidateJobUpdate judges an update. Most of the spec stays; an indexed job may grow and shrink, and one that waits may be
// placed otherwise.
func ValidateJobUpdate(j, old *batchv1.Job) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaUpdate(&j.ObjectMeta, &old.ObjectMeta, metaPath)
	errs = append(errs, validateWholeSpec(&j.Spec, specPath)...)
	errs = append(errs, validateCompletionsUpdate(&j.Spec, &old.Spec, specPath.Child("completions"))...)
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"selector", j.Spec.Selector, old.Spec.Selector},
		{"template", &j.Spec.Template, mutableTemplate(j, old)},
		{"completionMode", j.Spec.CompletionMode, old.Spec.CompletionMode},
		{"podFailurePolicy", j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy},
		{"backoffLimitPerIndex", j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex},
		{"managedBy", j.Spec.ManagedBy, old.Spec.ManagedBy},
		{"successPolicy", j.Spec.SuccessPolicy, old.Spec.SuccessPolicy},
	} {
		errs = append(errs, apivalidation.ValidateImmutableField(f.now, f.was, specPath.Child(f.name))...)
	}
	return errs
}

func validateCompletionsUpdate(spec, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if !indexed(spec) {
		return apivalidation.ValidateImmutableField(spec.Completions, old.Completions, path)
	}
	if spec.Completions == nil || apiequality.Semantic.DeepEqual(spec.Completions, old.Completions) {
		return nil
	}
	if spec.Parallelism == nil || *spec.Completions != *spec.Parallelism {
		return field.ErrorList{field.Invalid(path, *spec.Completions, "can only be modified in tandem with "+path.Root().Child("parallelism").String())}
	}
	return nil
}

// mutableTemplate is the old template with those parts of the new that may change: while a job is suspended and none of its
// pods run, where its pods may run and what they ask for.
func mutableTemplate(j, old *batchv1.Job) *corev1.PodTemplateSpec {
	if !ptr.Deref(old.Spec.Suspend, false) || (old.Status.StartTime != nil && (!holds(&old.Status, batchv1.JobSuspended) || old.Status.Active != 0)) {
		return &old.Spec.Template
	}
	now, out := &j.Spec.Template, old.Spec.Template.DeepCopy()
	out.Labels, out.Annotations = now.Labels, now.Annotations
	out.Spec.NodeSelector, out.Spec.Tolerations, out.Spec.SchedulingGates = now.Spec.NodeSelector, now.Spec.Tolerations, now.Spec.SchedulingGates
	for _, lists := range [][2][]corev1.Container{{out.Spec.Containers, now.Spec.Containers}, {out.Spec.InitContainers, now.Spec.InitContainers}} {
		for i := range min(len(lists[0]), len(lists[1])) {
			lists[0][i].Resources = lists[1][i].Resources
		}
	}
	var node *corev1.NodeAffinity
	if now.Spec.Affinity != nil {
		node = now.Spec.Affinity.NodeAffinity
	}
	affinity := corev1.Affinity{}
	if out.Spec.Affinity != nil {
		affinity = *out.Spec.Affinity
	}
	affinity.NodeAffinity = node
	out.Spec.Affinity = &affinity
	if affinity == (corev1.Affinity{}) && now.Spec.Affinity == nil {
		out.Spec.Affinity = nil
	}
	return out
}
