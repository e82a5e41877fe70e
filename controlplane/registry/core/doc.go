// Package core serves the kinds of the core group ("v1") whose rules fit a table: how each is prepared, validated and
// selected. Pods, services and events have packages of their own beside it.
//
// Everything here but Build functions is pure; storage comes from package kind.
package core

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// versions is where the kinds of this package are served.
var versions = []string{corev1.SchemeGroupVersion.String()}

func listOf[L any, P interface {
	*L
	runtime.Object
}]() func() runtime.Object {
	return func() runtime.Object { return P(new(L)) }
}

// bump raises the generation of an object whose spec changed.
func bump(obj, old metav1.Object, spec, oldSpec any) {
	obj.SetGeneration(old.GetGeneration())
	if !apiequality.Semantic.DeepEqual(spec, oldSpec) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// withLabel returns labels with one more, without changing the argument.
func withLabel(labels map[string]string, key, value string) map[string]string {
	if labels[key] == value {
		return labels
	}
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}
