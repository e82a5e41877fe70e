package apps

import (
	"context"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/apps"
	"coracle/controlplane/registry/kind"
)

// DaemonSets describes daemonsets.
func DaemonSets() kind.Kind[*appsv1.DaemonSet] {
	return kind.Kind[*appsv1.DaemonSet]{
		Group: appsv1.GroupName, Versions: versions, Resource: "daemonsets", Singular: "daemonset",
		Short: []string{"ds"}, Categories: []string{"all"},
		New:     func() *appsv1.DaemonSet { return &appsv1.DaemonSet{} },
		NewList: func() runtime.Object { return &appsv1.DaemonSetList{} },
		Main: kind.Strategy[*appsv1.DaemonSet]{
			Create: func(_ context.Context, obj *appsv1.DaemonSet) {
				obj.Status, obj.Generation = appsv1.DaemonSetStatus{}, 1
				countTemplate(obj, 1)
			},
			Update:   updateDaemonSet,
			Validate: apps.ValidateDaemonSet, ValidateUpdate: apps.ValidateDaemonSetUpdate,
			Warn:  warnTemplate(func(d *appsv1.DaemonSet) *corev1.PodTemplateSpec { return &d.Spec.Template }),
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*appsv1.DaemonSet]{
			Update:         func(_ context.Context, obj, old *appsv1.DaemonSet) { obj.Spec = old.Spec },
			ValidateUpdate: apps.ValidateDaemonSetStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// updateDaemonSet keeps the count of templates, which clients of the first versions read; they write neither it nor the
// generation.
func updateDaemonSet(_ context.Context, obj, old *appsv1.DaemonSet) {
	obj.Status, obj.Generation = old.Status, old.Generation
	count, err := strconv.ParseInt(old.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		count = 0 // stored by somebody who did not count
	}
	if !apiequality.Semantic.DeepEqual(obj.Spec.Template, old.Spec.Template) {
		count++
	}
	countTemplate(obj, count)
	if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) {
		obj.Generation++
	}
}

func countTemplate(d *appsv1.DaemonSet, n int64) {
	metav1.SetMetaDataAnnotation(&d.ObjectMeta, appsv1.DeprecatedTemplateGeneration, strconv.FormatInt(n, 10))
}

// StatefulSets describes statefulsets.
func StatefulSets() kind.Kind[*appsv1.StatefulSet] {
	return kind.Kind[*appsv1.StatefulSet]{
		Group: appsv1.GroupName, Versions: versions, Resource: "statefulsets", Singular: "statefulset",
		Short: []string{"sts"}, Categories: []string{"all"},
		New:     func() *appsv1.StatefulSet { return &appsv1.StatefulSet{} },
		NewList: func() runtime.Object { return &appsv1.StatefulSetList{} },
		Main: kind.Strategy[*appsv1.StatefulSet]{
			Create: func(_ context.Context, obj *appsv1.StatefulSet) {
				obj.Status, obj.Generation = appsv1.StatefulSetStatus{}, 1
			},
			Update: func(_ context.Context, obj, old *appsv1.StatefulSet) {
				obj.Status, obj.Generation = old.Status, old.Generation
				if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) {
					obj.Generation++
				}
			},
			Validate: apps.ValidateStatefulSet, ValidateUpdate: apps.ValidateStatefulSetUpdate,
			Warn:  warnTemplate(func(s *appsv1.StatefulSet) *corev1.PodTemplateSpec { return &s.Spec.Template }),
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*appsv1.StatefulSet]{
			Update:         func(_ context.Context, obj, old *appsv1.StatefulSet) { obj.Spec = old.Spec },
			ValidateUpdate: apps.ValidateStatefulSetStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// StatefulSetScale tells how statefulsets are scaled.
func StatefulSetScale() kind.Scalable[*appsv1.StatefulSet] {
	return kind.Scalable[*appsv1.StatefulSet]{
		Scale: func(s *appsv1.StatefulSet) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus, error) {
			return scale(s.Spec.Replicas, s.Status.Replicas, s.Spec.Selector)
		},
		Set: func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
	}
}

// ControllerRevisions describes controllerrevisions.
func ControllerRevisions() kind.Kind[*appsv1.ControllerRevision] {
	return kind.Kind[*appsv1.ControllerRevision]{
		Group: appsv1.GroupName, Versions: versions, Resource: "controllerrevisions", Singular: "controllerrevision",
		New:     func() *appsv1.ControllerRevision { return &appsv1.ControllerRevision{} },
		NewList: func() runtime.Object { return &appsv1.ControllerRevisionList{} },
		Main: kind.Strategy[*appsv1.ControllerRevision]{
			Validate: apps.ValidateControllerRevision, ValidateUpdate: apps.ValidateControllerRevisionUpdate,
		},
	}
}
