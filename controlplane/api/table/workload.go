package table

import (
	"fmt"
	"reflect"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/utils/ptr"
)

func workloadPrinters() map[reflect.Type]printer {
	replicas := columns(nameColumn, number("Desired"), number("Current"), number("Ready"), ageColumn, wide("Containers"), wide("Images"), wide("Selector"))
	return map[reflect.Type]printer{
		typeOf[appsv1.Deployment](): of(columns(nameColumn, text("Ready"), text("Up-to-date"), text("Available"), ageColumn,
			wide("Containers"), wide("Images"), wide("Selector")), deploymentCells),
		typeOf[appsv1.ReplicaSet](): of(replicas, func(o *appsv1.ReplicaSet, now time.Time) []any {
			names, images := containerCells(o.Spec.Template.Spec.Containers)
			return []any{o.Name, int64(ptr.Deref(o.Spec.Replicas, 1)), int64(o.Status.Replicas), int64(o.Status.ReadyReplicas), age(o, now),
				names, images, selectorText(o.Spec.Selector)}
		}),
		typeOf[corev1.ReplicationController](): of(replicas, func(o *corev1.ReplicationController, now time.Time) []any {
			var template corev1.PodTemplateSpec
			if o.Spec.Template != nil {
				template = *o.Spec.Template
			}
			names, images := containerCells(template.Spec.Containers)
			return []any{o.Name, int64(ptr.Deref(o.Spec.Replicas, 1)), int64(o.Status.Replicas), int64(o.Status.ReadyReplicas), age(o, now),
				names, images, labelText(o.Spec.Selector)}
		}),
		typeOf[appsv1.StatefulSet](): of(columns(nameColumn, text("Ready"), ageColumn, wide("Containers"), wide("Images")),
			func(o *appsv1.StatefulSet, now time.Time) []any {
				names, images := containerCells(o.Spec.Template.Spec.Containers)
				return []any{o.Name, fmt.Sprintf("%d/%d", o.Status.ReadyReplicas, ptr.Deref(o.Spec.Replicas, 1)), age(o, now), names, images}
			}),
		typeOf[appsv1.DaemonSet](): of(columns(nameColumn, number("Desired"), number("Current"), number("Ready"), number("Up-to-date"),
			number("Available"), text("Node Selector"), ageColumn, wide("Containers"), wide("Images"), wide("Selector")), daemonSetCells),
		typeOf[appsv1.ControllerRevision](): of(columns(nameColumn, text("Controller"), text("Revision"), ageColumn), revisionCells),
		typeOf[batchv1.Job](): of(columns(nameColumn, text("Status"), text("Completions"), text("Duration"), ageColumn,
			wide("Containers"), wide("Images"), wide("Selector")), jobCells),
		typeOf[batchv1.CronJob](): of(columns(nameColumn, text("Schedule"), text("Timezone"), boolean("Suspend"), number("Active"),
			text("Last Schedule"), ageColumn, wide("Containers"), wide("Images"), wide("Selector")), cronJobCells),
		typeOf[autoscalingv1.Scale](): of(columns(nameColumn, number("Desired"), number("Available"), ageColumn),
			func(o *autoscalingv1.Scale, now time.Time) []any {
				return []any{o.Name, int64(o.Spec.Replicas), int64(o.Status.Replicas), age(o, now)}
			}),
	}
}

func deploymentCells(o *appsv1.Deployment, now time.Time) []any {
	names, images := containerCells(o.Spec.Template.Spec.Containers)
	return []any{o.Name, fmt.Sprintf("%d/%d", o.Status.ReadyReplicas, ptr.Deref(o.Spec.Replicas, 1)), int64(o.Status.UpdatedReplicas),
		int64(o.Status.AvailableReplicas), age(o, now), names, images, selectorText(o.Spec.Selector)}
}

func daemonSetCells(o *appsv1.DaemonSet, now time.Time) []any {
	names, images := containerCells(o.Spec.Template.Spec.Containers)
	return []any{o.Name, int64(o.Status.DesiredNumberScheduled), int64(o.Status.CurrentNumberScheduled), int64(o.Status.NumberReady),
		int64(o.Status.UpdatedNumberScheduled), int64(o.Status.NumberAvailable), labelText(o.Spec.Template.Spec.NodeSelector), age(o, now),
		names, images, selectorText(o.Spec.Selector)}
}

func revisionCells(o *appsv1.ControllerRevision, now time.Time) []any {
	controller := none
	if ref := metav1.GetControllerOf(o); ref != nil {
		group := ""
		if gv, _, ok := cutLast(ref.APIVersion, "/"); ok {
			group = "." + gv
		}
		controller = fmt.Sprintf("%s%s/%s", lower(ref.Kind), group, ref.Name)
	}
	return []any{o.Name, controller, o.Revision, age(o, now)}
}

func jobCells(o *batchv1.Job, now time.Time) []any {
	completions := fmt.Sprintf("%d/1", o.Status.Succeeded)
	switch {
	case o.Spec.Completions != nil:
		completions = fmt.Sprintf("%d/%d", o.Status.Succeeded, *o.Spec.Completions)
	case o.Spec.Parallelism != nil && *o.Spec.Parallelism > 1:
		completions = fmt.Sprintf("%d/1 of %d", o.Status.Succeeded, *o.Spec.Parallelism)
	}
	took := ""
	switch {
	case o.Status.StartTime == nil:
	case o.Status.CompletionTime == nil:
		took = duration.HumanDuration(now.Sub(o.Status.StartTime.Time))
	default:
		took = duration.HumanDuration(o.Status.CompletionTime.Sub(o.Status.StartTime.Time))
	}
	names, images := containerCells(o.Spec.Template.Spec.Containers)
	return []any{o.Name, jobStatus(o), completions, took, age(o, now), names, images, selectorText(o.Spec.Selector)}
}

func jobStatus(o *batchv1.Job) string {
	holds := func(kind batchv1.JobConditionType) bool {
		for _, c := range o.Status.Conditions {
			if c.Type == kind && c.Status == corev1.ConditionTrue {
				return true
			}
		}
		return false
	}
	switch {
	case holds(batchv1.JobComplete):
		return "Complete"
	case holds(batchv1.JobFailed):
		return "Failed"
	case o.DeletionTimestamp != nil:
		return "Terminating"
	case holds(batchv1.JobSuspended):
		return "Suspended"
	case holds(batchv1.JobFailureTarget):
		return "FailureTarget"
	case holds(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func cronJobCells(o *batchv1.CronJob, now time.Time) []any {
	last := none
	if o.Status.LastScheduleTime != nil {
		last = since(*o.Status.LastScheduleTime, now)
	}
	suspended := "False"
	if ptr.Deref(o.Spec.Suspend, false) {
		suspended = "True"
	}
	names, images := containerCells(o.Spec.JobTemplate.Spec.Template.Spec.Containers)
	return []any{o.Name, o.Spec.Schedule, ptr.Deref(o.Spec.TimeZone, none), suspended, int64(len(o.Status.Active)),
		last, age(o, now), names, images, selectorText(o.Spec.JobTemplate.Spec.Selector)}
}
