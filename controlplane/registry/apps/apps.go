// Package apps serves the kinds of apps/v1: deployments, replicasets, statefulsets and daemonsets with their status and
// scale, and controllerrevisions.
package apps

import (
	"context"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/apps"
	"coracle/controlplane/registry/core/pod"
	"coracle/controlplane/registry/kind"
)

var templatePath = field.NewPath("spec", "template")

var versions = []string{appsv1.SchemeGroupVersion.String()}

// Deployments describes deployments.
func Deployments() kind.Kind[*appsv1.Deployment] {
	return kind.Kind[*appsv1.Deployment]{
		Group: appsv1.GroupName, Versions: versions, Resource: "deployments", Singular: "deployment",
		Short: []string{"deploy"}, Categories: []string{"all"},
		New:     func() *appsv1.Deployment { return &appsv1.Deployment{} },
		NewList: func() runtime.Object { return &appsv1.DeploymentList{} },
		Main: kind.Strategy[*appsv1.Deployment]{
			Create: func(_ context.Context, obj *appsv1.Deployment) {
				obj.Status, obj.Generation = appsv1.DeploymentStatus{}, 1
			},
			Update: func(_ context.Context, obj, old *appsv1.Deployment) {
				obj.Status, obj.Generation = old.Status, old.Generation
				// Annotations count: a rollback is asked for, and pausing is told, through them.
				if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) || !apiequality.Semantic.DeepEqual(obj.Annotations, old.Annotations) {
					obj.Generation = old.Generation + 1
				}
			},
			Validate: apps.ValidateDeployment, ValidateUpdate: apps.ValidateDeploymentUpdate,
			Warn:  warnTemplate(func(obj *appsv1.Deployment) *corev1.PodTemplateSpec { return &obj.Spec.Template }),
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*appsv1.Deployment]{
			Update: func(_ context.Context, obj, old *appsv1.Deployment) {
				obj.Spec, obj.Labels = old.Spec, old.Labels
			},
			ValidateUpdate: apps.ValidateDeploymentStatusUpdate,
			Reset:          []string{"spec", "metadata.labels"},
		},
	}
}

// DeploymentScale tells how deployments are scaled.
func DeploymentScale() kind.Scalable[*appsv1.Deployment] {
	return kind.Scalable[*appsv1.Deployment]{
		Scale: func(d *appsv1.Deployment) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus, error) {
			return scale(d.Spec.Replicas, d.Status.Replicas, d.Spec.Selector)
		},
		Set: func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
	}
}

// ReplicaSets describes replicasets.
func ReplicaSets() kind.Kind[*appsv1.ReplicaSet] {
	return kind.Kind[*appsv1.ReplicaSet]{
		Group: appsv1.GroupName, Versions: versions, Resource: "replicasets", Singular: "replicaset",
		Short: []string{"rs"}, Categories: []string{"all"},
		New:     func() *appsv1.ReplicaSet { return &appsv1.ReplicaSet{} },
		NewList: func() runtime.Object { return &appsv1.ReplicaSetList{} },
		Fields: func(r *appsv1.ReplicaSet) fields.Set {
			return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
		},
		Main: kind.Strategy[*appsv1.ReplicaSet]{
			Create: func(_ context.Context, obj *appsv1.ReplicaSet) {
				obj.Status, obj.Generation = appsv1.ReplicaSetStatus{}, 1
			},
			Update: func(_ context.Context, obj, old *appsv1.ReplicaSet) {
				obj.Status, obj.Generation = old.Status, old.Generation
				if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) {
					obj.Generation = old.Generation + 1
				}
			},
			Validate: apps.ValidateReplicaSet, ValidateUpdate: apps.ValidateReplicaSetUpdate,
			Warn:  warnTemplate(func(obj *appsv1.ReplicaSet) *corev1.PodTemplateSpec { return &obj.Spec.Template }),
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*appsv1.ReplicaSet]{
			Update:         func(_ context.Context, obj, old *appsv1.ReplicaSet) { obj.Spec = old.Spec },
			ValidateUpdate: apps.ValidateReplicaSetStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// ReplicaSetScale tells how replicasets are scaled.
func ReplicaSetScale() kind.Scalable[*appsv1.ReplicaSet] {
	return kind.Scalable[*appsv1.ReplicaSet]{
		Scale: func(r *appsv1.ReplicaSet) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus, error) {
			return scale(r.Spec.Replicas, r.Status.Replicas, r.Spec.Selector)
		},
		Set: func(r *appsv1.ReplicaSet, n int32) { r.Spec.Replicas = &n },
	}
}

// warnTemplate warns of what the template of a workload says; old is nil of one that is new.
func warnTemplate[T comparable](template func(T) *corev1.PodTemplateSpec) func(obj, old T) []string {
	return func(obj, old T) []string {
		var none T
		if old == none {
			return pod.WarnTemplate(templatePath, template(obj), nil)
		}
		return pod.WarnTemplate(templatePath, template(obj), template(old))
	}
}

func scale(want *int32, have int32, selector *metav1.LabelSelector) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return autoscalingv1.ScaleSpec{}, autoscalingv1.ScaleStatus{}, err
	}
	spec := autoscalingv1.ScaleSpec{}
	if want != nil {
		spec.Replicas = *want
	}
	return spec, autoscalingv1.ScaleStatus{Replicas: have, Selector: s.String()}, nil
}
