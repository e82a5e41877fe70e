package batch

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/batch"
	"coracle/controlplane/registry/core/pod"
	"coracle/controlplane/registry/kind"
)

// CronJobs describes cronjobs.
func CronJobs() kind.Kind[*batchv1.CronJob] {
	return kind.Kind[*batchv1.CronJob]{
		Group: batchv1.GroupName, Versions: versions, Resource: "cronjobs", Singular: "cronjob",
		Short: []string{"cj"}, Categories: []string{"all"},
		New:     func() *batchv1.CronJob { return &batchv1.CronJob{} },
		NewList: func() runtime.Object { return &batchv1.CronJobList{} },
		Main: kind.Strategy[*batchv1.CronJob]{
			Create: func(_ context.Context, obj *batchv1.CronJob) {
				obj.Status, obj.Generation = batchv1.CronJobStatus{}, 1
				obj.Spec.JobTemplate.Spec.Scheduling = nil // of a feature that is off
			},
			Update: func(_ context.Context, obj, old *batchv1.CronJob) {
				obj.Status, obj.Generation = old.Status, old.Generation
				obj.Spec.JobTemplate.Spec.Scheduling = old.Spec.JobTemplate.Spec.Scheduling
				if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) {
					obj.Generation++
				}
			},
			Validate: batch.ValidateCronJob, ValidateUpdate: batch.ValidateCronJobUpdate,
			Warn: func(obj, old *batchv1.CronJob) []string {
				at := field.NewPath("spec", "jobTemplate", "spec", "template")
				if old == nil {
					return pod.WarnTemplate(at, &obj.Spec.JobTemplate.Spec.Template, nil)
				}
				return pod.WarnTemplate(at, &obj.Spec.JobTemplate.Spec.Template, &old.Spec.JobTemplate.Spec.Template)
			},
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*batchv1.CronJob]{
			Update:         func(_ context.Context, obj, old *batchv1.CronJob) { obj.Spec = old.Spec },
			ValidateUpdate: batch.ValidateCronJobStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}
