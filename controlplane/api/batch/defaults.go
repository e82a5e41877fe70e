// Package batch holds the defaults and validation of Jobs and CronJobs.
package batch

import (
	"maps"
	"math"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/core"
	"coracle/controlplane/api/fill"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, defaultJob)
	fill.List(s, func(l *batchv1.JobList) []batchv1.Job { return l.Items }, defaultJob)
	fill.Kind(s, defaultCronJob)
	fill.List(s, func(l *batchv1.CronJobList) []batchv1.CronJob { return l.Items }, defaultCronJob)
	return nil
}

func defaultJob(j *batchv1.Job) {
	spec := &j.Spec
	// One run, unless the user asked for a work queue by giving only parallelism.
	if spec.Completions == nil && spec.Parallelism == nil {
		fill.Pointer(&spec.Completions, 1)
	}
	fill.Pointer(&spec.Parallelism, 1)
	if spec.BackoffLimitPerIndex != nil {
		// Failures are counted per index, so the total does not bound them.
		fill.Pointer(&spec.BackoffLimit, math.MaxInt32)
	} else {
		fill.Pointer(&spec.BackoffLimit, 6)
	}
	if len(j.Labels) == 0 {
		j.Labels = maps.Clone(spec.Template.Labels)
	}
	fill.Pointer(&spec.CompletionMode, batchv1.NonIndexedCompletion)
	fill.Pointer(&spec.Suspend, false)
	defaultPodReplacement(spec)
	fill.Pointer(&spec.ManualSelector, false)
	core.DefaultPodTemplateSpec(&spec.Template)
}

func defaultPodReplacement(spec *batchv1.JobSpec) {
	if spec.PodFailurePolicy == nil {
		fill.Pointer(&spec.PodReplacementPolicy, batchv1.TerminatingOrFailed)
		return
	}
	fill.Pointer(&spec.PodReplacementPolicy, batchv1.Failed)
	for i := range spec.PodFailurePolicy.Rules {
		patterns := spec.PodFailurePolicy.Rules[i].OnPodConditions
		for j := range patterns {
			fill.Value(&patterns[j].Status, corev1.ConditionTrue)
		}
	}
}

func defaultCronJob(c *batchv1.CronJob) {
	fill.Value(&c.Spec.ConcurrencyPolicy, batchv1.AllowConcurrent)
	fill.Pointer(&c.Spec.Suspend, false)
	fill.Pointer(&c.Spec.SuccessfulJobsHistoryLimit, 3)
	fill.Pointer(&c.Spec.FailedJobsHistoryLimit, 1)
	core.DefaultPodTemplateSpec(&c.Spec.JobTemplate.Spec.Template)
}
