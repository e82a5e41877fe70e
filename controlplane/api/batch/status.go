package batch

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// holds says whether a condition of the job is true.
func holds(s *batchv1.JobStatus, kind batchv1.JobConditionType) bool {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return s.Conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

// ValidateJobStatusUpdate judges an update of the status. Counts do not go down, an end is for ever, and what is said of
// it fits together.
func ValidateJobStatusUpdate(j, old *batchv1.Job) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaUpdate(&j.ObjectMeta, &old.ObjectMeta, metaPath)
	errs = append(errs, validateCounts(&j.Status)...)
	errs = append(errs, validateUncounted(j.Status.UncountedTerminatedPods, statusPath.Child("uncountedTerminatedPods"))...)
	// What was stored before may be odd; the rest is asked of a status that changes only.
	if apiequality.Semantic.DeepEqual(j.Status, old.Status) {
		return errs
	}
	errs = append(errs, validateConditions(&j.Status)...)
	errs = append(errs, validateTimes(j, old)...)
	errs = append(errs, validateIndexes(j)...)
	return append(errs, validateProgress(&j.Status, &old.Status)...)
}

func validateCounts(s *batchv1.JobStatus) field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		name  string
		count int32
	}{
		{"active", s.Active}, {"succeeded", s.Succeeded}, {"failed", s.Failed},
		{"ready", ptr.Deref(s.Ready, 0)}, {"terminating", ptr.Deref(s.Terminating, 0)},
	} {
		errs = append(errs, apivalidation.ValidateNonnegativeField(int64(f.count), statusPath.Child(f.name))...)
	}
	return errs
}

func validateUncounted(u *batchv1.UncountedTerminatedPods, path *field.Path) field.ErrorList {
	if u == nil {
		return nil
	}
	var errs field.ErrorList
	seen := map[types.UID]bool{}
	for _, list := range []struct {
		name string
		uids []types.UID
	}{{"succeeded", u.Succeeded}, {"failed", u.Failed}} {
		for i, uid := range list.uids {
			at := path.Child(list.name).Index(i)
			switch {
			case uid == "":
				errs = append(errs, field.Invalid(at, uid, "must not be empty"))
			case seen[uid]:
				errs = append(errs, field.Duplicate(at, uid))
			}
			seen[uid] = true
		}
	}
	return errs
}

// validateConditions refuses ends that exclude each other, or that come without what leads to them, and what a job that
// has ended cannot have.
func validateConditions(s *batchv1.JobStatus) field.ErrorList {
	complete, failed := holds(s, batchv1.JobComplete), holds(s, batchv1.JobFailed)
	failing, succeeding := holds(s, batchv1.JobFailureTarget), holds(s, batchv1.JobSuccessCriteriaMet)
	var errs field.ErrorList
	refuse := func(bad bool, name, text string) {
		if bad {
			errs = append(errs, field.Invalid(statusPath.Child(name), field.OmitValueType{}, text))
		}
	}
	refuse(complete && failed, "conditions", "cannot set Complete=True and Failed=true conditions")
	refuse(complete && failing, "conditions", "cannot set Complete=True and FailureTarget=true conditions")
	refuse(succeeding && failed, "conditions", "cannot set Failed=True and SuccessCriteriaMet=true conditions")
	refuse(succeeding && failing, "conditions", "cannot set FailureTarget=True and SuccessCriteriaMet=true conditions")
	refuse(complete && !succeeding, "conditions", "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")
	refuse(failed && !failing, "conditions", "cannot set Failed=True condition without the FailureTarget=true condition")
	ended := complete || failed
	refuse(ended && s.Active > 0, "active", "active>0 is invalid for finished job")
	refuse(ended && ptr.Deref(s.Terminating, 0) > 0, "terminating", "terminating>0 is invalid for finished job")
	refuse(ended && s.UncountedTerminatedPods != nil && len(s.UncountedTerminatedPods.Succeeded)+len(s.UncountedTerminatedPods.Failed) > 0,
		"uncountedTerminatedPods", "uncountedTerminatedPods needs to be empty for finished job")
	refuse(ptr.Deref(s.Ready, 0) > s.Active, "ready", "cannot set more ready pods than active")
	return errs
}

func validateTimes(j, old *batchv1.Job) field.ErrorList {
	var errs field.ErrorList
	s := &j.Status
	complete := holds(s, batchv1.JobComplete)
	at := statusPath.Child("completionTime")
	switch {
	case s.CompletionTime != nil && !complete:
		errs = append(errs, field.Invalid(at, s.CompletionTime, "cannot set completionTime when there is no Complete=True condition"))
	case s.CompletionTime == nil && complete:
		errs = append(errs, field.Required(at, "completionTime is required for Complete jobs"))
	case s.CompletionTime != nil && s.StartTime != nil && s.CompletionTime.Before(s.StartTime):
		errs = append(errs, field.Invalid(at, s.CompletionTime, "completionTime cannot be set before startTime"))
	}
	if old.Status.CompletionTime != nil {
		errs = append(errs, apivalidation.ValidateImmutableField(s.CompletionTime, old.Status.CompletionTime, at)...)
	}
	start := statusPath.Child("startTime")
	if s.StartTime == nil && (complete || holds(s, batchv1.JobFailed)) {
		errs = append(errs, field.Required(start, "startTime is required for finished job"))
	}
	// A job that is resumed starts anew.
	if was := old.Status.StartTime; was != nil && !ptr.Deref(j.Spec.Suspend, false) && !holds(&old.Status, batchv1.JobSuspended) {
		switch {
		case s.StartTime == nil:
			errs = append(errs, field.Required(start, "startTime cannot be removed for unsuspended job"))
		case !s.StartTime.Equal(was):
			errs = append(errs, field.Invalid(start, s.StartTime, "startTime cannot be modified for unsuspended job"))
		}
	}
	return errs
}

func validateIndexes(j *batchv1.Job) field.ErrorList {
	var errs field.ErrorList
	failed := ptr.Deref(j.Status.FailedIndexes, "")
	if !indexed(&j.Spec) || j.Spec.Completions == nil {
		if j.Status.CompletedIndexes != "" {
			errs = append(errs, field.Invalid(statusPath.Child("completedIndexes"), j.Status.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
		}
		if failed != "" {
			errs = append(errs, field.Invalid(statusPath.Child("failedIndexes"), failed, "cannot set non-empty failedIndexes when non-indexed completion mode"))
		}
		return errs
	}
	if _, err := CountIndexes(j.Status.CompletedIndexes, *j.Spec.Completions); err != nil {
		errs = append(errs, field.Invalid(statusPath.Child("completedIndexes"), j.Status.CompletedIndexes, "error parsing completedIndexes: "+err.Error()))
	}
	if failed != "" && j.Spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(statusPath.Child("failedIndexes"), failed, "cannot set non-empty failedIndexes when there is no backoffLimitPerIndex"))
	}
	if _, err := CountIndexes(failed, *j.Spec.Completions); err != nil {
		errs = append(errs, field.Invalid(statusPath.Child("failedIndexes"), failed, "error parsing failedIndexes: "+err.Error()))
	}
	return errs
}

func validateProgress(s, old *batchv1.JobStatus) field.ErrorList {
	var errs field.ErrorList
	for _, kind := range []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuccessCriteriaMet} {
		if holds(old, kind) && !holds(s, kind) {
			errs = append(errs, field.Invalid(statusPath.Child("conditions"), field.OmitValueType{}, "cannot disable terminal "+string(kind)+"=True condition"))
		}
	}
	if s.Failed < old.Failed {
		errs = append(errs, field.Invalid(statusPath.Child("failed"), s.Failed, "cannot decrease the failed counter"))
	}
	if s.Succeeded < old.Succeeded && !holds(old, batchv1.JobComplete) && s.CompletedIndexes == "" {
		errs = append(errs, field.Invalid(statusPath.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter"))
	}
	return errs
}
