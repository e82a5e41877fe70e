// Package rootca puts the cluster's CA into a ConfigMap of each namespace, where pods find it beside their
// token, and repairs it when somebody changes it.
package rootca

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The ConfigMap's name and key, and the annotation that says what it is for.
const (
	Name       = "kube-root-ca.crt"
	Key        = "ca.crt"
	annotation = "kubernetes.io/description"
)

const description = "The certificate authority of this cluster's API server, for clients inside the cluster."

// MakePlan is the ConfigMap to write: to create where has is nil, to update otherwise. nil: nothing to do.
func MakePlan(ns *corev1.Namespace, has *corev1.ConfigMap, rootCA []byte) *corev1.ConfigMap {
	if ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		return nil
	}
	data := map[string]string{Key: string(rootCA)}
	if has == nil {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: Name, Namespace: ns.Name, Annotations: map[string]string{annotation: description}},
			Data:       data,
		}
	}
	if maps.Equal(has.Data, data) && len(has.BinaryData) == 0 {
		return nil
	}
	next := has.DeepCopy()
	next.Data, next.BinaryData = data, nil
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	next.Annotations[annotation] = description
	return next
}
