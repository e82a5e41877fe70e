// Package batch serves jobs and cronjobs.
package batch

import (
	"context"
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"

	"coracle/controlplane/api/batch"
	"coracle/controlplane/registry/core/pod"
	"coracle/controlplane/registry/kind"
)

var (
	versions     = []string{batchv1.SchemeGroupVersion.String()}
	templatePath = field.NewPath("spec", "template")
)

// Jobs describes jobs. Deleting one keeps its pods unless the client says otherwise, as batch/v1 always had it.
func Jobs() kind.Kind[*batchv1.Job] {
	return kind.Kind[*batchv1.Job]{
		Group: batchv1.GroupName, Versions: versions, Resource: "jobs", Singular: "job", Categories: []string{"all"},
		New:     func() *batchv1.Job { return &batchv1.Job{} },
		NewList: func() runtime.Object { return &batchv1.JobList{} },
		Fields: func(j *batchv1.Job) fields.Set {
			return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
		},
		Main: kind.Strategy[*batchv1.Job]{
			Create: func(_ context.Context, obj *batchv1.Job) {
				obj.Status, obj.Generation = batchv1.JobStatus{}, 1
				obj.Spec.Scheduling = nil // of a feature that is off
				batch.GenerateSelector(obj)
			},
			Update: func(_ context.Context, obj, old *batchv1.Job) {
				obj.Status, obj.Generation = old.Status, old.Generation
				obj.Spec.Scheduling = old.Spec.Scheduling
				if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) {
					obj.Generation++
				}
			},
			Validate: batch.ValidateJob, ValidateUpdate: batch.ValidateJobUpdate,
			Warn:  warnJob,
			Reset: []string{"status"}, Collection: rest.OrphanDependents,
		},
		Status: &kind.Strategy[*batchv1.Job]{
			Update:         func(_ context.Context, obj, old *batchv1.Job) { obj.Spec = old.Spec },
			ValidateUpdate: batch.ValidateJobStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

func warnJob(obj, old *batchv1.Job) []string {
	if old != nil {
		return pod.WarnTemplate(templatePath, &obj.Spec.Template, &old.Spec.Template)
	}
	var out []string
	if msgs := validation.IsDNS1123Label(obj.Name); len(msgs) > 0 {
		out = append(out, fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(out, pod.WarnTemplate(templatePath, &obj.Spec.Template, nil)...)
}

// JobREST is the storage of jobs. Whoever deletes one without saying what becomes of its pods is told that they stay.
type JobREST struct{ *kind.REST }

// NewJobs wraps what Jobs was built into.
func NewJobs(jobs *kind.REST) *JobREST { return &JobREST{REST: jobs} }

const podsStay = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning"

// Delete implements rest.GracefulDeleter.
func (r *JobREST) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	warnOfPods(ctx, options)
	return r.REST.Delete(ctx, name, validate, options)
}

// DeleteCollection implements rest.CollectionDeleter.
func (r *JobREST) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, list *metainternalversion.ListOptions) (runtime.Object, error) {
	warnOfPods(ctx, options)
	return r.REST.DeleteCollection(ctx, validate, options, list)
}

func warnOfPods(ctx context.Context, options *metav1.DeleteOptions) {
	//nolint:staticcheck // old clients say it in this field
	if options != nil && options.PropagationPolicy == nil && options.OrphanDependents == nil {
		warning.AddWarning(ctx, "", podsStay)
	}
}
