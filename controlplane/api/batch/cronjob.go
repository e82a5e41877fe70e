package batch

import (
	"strings"
	"time"
	_ "time/tzdata" // a machine need not have the zones that a schedule may name

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// maxCronJobName leaves room in the 63 of a label for the eleven that the controller appends to make a job's name.
const maxCronJobName = 52

// ValidateCronJob judges a cron job about to be created.
func ValidateCronJob(c *batchv1.CronJob) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&c.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, metaPath)
	if len(c.Name) > maxCronJobName {
		errs = append(errs, field.Invalid(metaPath.Child("name"), c.Name, "must be no more than 52 characters"))
	}
	return append(errs, validateCronSpec(&c.Spec, nil)...)
}

// ValidateCronJobUpdate judges an update. A schedule with a zone in it and a zone that is not known any more may stay.
func ValidateCronJobUpdate(c, old *batchv1.CronJob) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaUpdate(&c.ObjectMeta, &old.ObjectMeta, metaPath)
	return append(errs, validateCronSpec(&c.Spec, &old.Spec)...)
}

// ValidateCronJobStatusUpdate judges an update of the status.
func ValidateCronJobStatusUpdate(c, old *batchv1.CronJob) field.ErrorList {
	return apivalidation.ValidateObjectMetaUpdate(&c.ObjectMeta, &old.ObjectMeta, metaPath)
}

// validateCronSpec judges the spec; old is nil of one that is new.
func validateCronSpec(spec, old *batchv1.CronJobSpec) field.ErrorList {
	var errs field.ErrorList
	if spec.Schedule == "" {
		errs = append(errs, field.Required(specPath.Child("schedule"), ""))
	} else {
		zoned := old != nil && strings.Contains(old.Schedule, "TZ")
		errs = append(errs, validateSchedule(spec.Schedule, zoned, spec.TimeZone, specPath.Child("schedule"))...)
	}
	if spec.TimeZone != nil && (old == nil || ptr.Deref(old.TimeZone, "") != *spec.TimeZone) {
		errs = append(errs, validateTimeZone(*spec.TimeZone, specPath.Child("timeZone"))...)
	}
	if v := spec.StartingDeadlineSeconds; v != nil {
		errs = append(errs, apivalidation.ValidateNonnegativeField(*v, specPath.Child("startingDeadlineSeconds"))...)
	}
	switch p := spec.ConcurrencyPolicy; p {
	case batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent:
	case "":
		errs = append(errs, field.Required(specPath.Child("concurrencyPolicy"), ""))
	default:
		errs = append(errs, field.NotSupported(specPath.Child("concurrencyPolicy"), p,
			[]batchv1.ConcurrencyPolicy{batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent}))
	}
	for _, f := range []struct {
		name  string
		value *int32
	}{{"successfulJobsHistoryLimit", spec.SuccessfulJobsHistoryLimit}, {"failedJobsHistoryLimit", spec.FailedJobsHistoryLimit}} {
		if f.value != nil {
			errs = append(errs, apivalidation.ValidateNonnegativeField(int64(*f.value), specPath.Child(f.name))...)
		}
	}
	job, at := &spec.JobTemplate.Spec, specPath.Child("jobTemplate", "spec")
	errs = append(errs, validateSpec(job, at)...)
	if job.Selector != nil {
		errs = append(errs, field.Invalid(at.Child("selector"), job.Selector, "`selector` will be auto-generated"))
	}
	if ptr.Deref(job.ManualSelector, false) {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), *job.ManualSelector, []string{"nil", "false"}))
	}
	return errs
}

// validateSchedule judges a schedule in the form of crontab(5); zoned is true where the stored one names its zone itself,
// which is not taken any more.
func validateSchedule(schedule string, zoned bool, zone *string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	// The parser panics at a zone that nothing follows.
	if strings.HasPrefix(schedule, "TZ=") || strings.HasPrefix(schedule, "CRON_TZ=") {
		if !strings.Contains(schedule, " ") {
			return field.ErrorList{field.Invalid(path, schedule, "expected a schedule after the time zone")}
		}
	}
	if _, err := cron.ParseStandard(schedule); err != nil {
		errs = append(errs, field.Invalid(path, schedule, err.Error()))
	}
	switch {
	case !strings.Contains(schedule, "TZ"):
	case zone != nil:
		errs = append(errs, field.Invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
	case !zoned:
		errs = append(errs, field.Invalid(path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	}
	return errs
}

func validateTimeZone(zone string, path *field.Path) field.ErrorList {
	if zone == "" {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be nil or non-empty string")}
	}
	if strings.EqualFold(zone, "Local") {
		return field.ErrorList{field.Invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")}
	}
	if _, err := time.LoadLocation(zone); err != nil {
		return field.ErrorList{field.Invalid(path, zone, err.Error())}
	}
	return nil
}
