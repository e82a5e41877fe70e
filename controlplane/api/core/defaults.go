package core

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/fill"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, defaultPod)
	fill.List(s, func(l *corev1.PodList) []corev1.Pod { return l.Items }, defaultPod)
	fill.Kind(s, defaultPodTemplate)
	fill.List(s, func(l *corev1.PodTemplateList) []corev1.PodTemplate { return l.Items }, defaultPodTemplate)
	fill.Kind(s, defaultReplicationController)
	fill.List(s, func(l *corev1.ReplicationControllerList) []corev1.ReplicationController { return l.Items }, defaultReplicationController)
	fill.Kind(s, defaultService)
	fill.List(s, func(l *corev1.ServiceList) []corev1.Service { return l.Items }, defaultService)
	fill.Kind(s, defaultEndpoints)
	fill.List(s, func(l *corev1.EndpointsList) []corev1.Endpoints { return l.Items }, defaultEndpoints)
	fill.Kind(s, defaultConfigMap)
	fill.List(s, func(l *corev1.ConfigMapList) []corev1.ConfigMap { return l.Items }, defaultConfigMap)
	fill.Kind(s, defaultSecret)
	fill.List(s, func(l *corev1.SecretList) []corev1.Secret { return l.Items }, defaultSecret)
	fill.Kind(s, defaultNamespace)
	fill.List(s, func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items }, defaultNamespace)
	fill.Kind(s, defaultNode)
	fill.List(s, func(l *corev1.NodeList) []corev1.Node { return l.Items }, defaultNode)
	fill.Kind(s, defaultLimitRange)
	fill.List(s, func(l *corev1.LimitRangeList) []corev1.LimitRange { return l.Items }, defaultLimitRange)
	fill.Kind(s, defaultResourceQuota)
	fill.List(s, func(l *corev1.ResourceQuotaList) []corev1.ResourceQuota { return l.Items }, defaultResourceQuota)
	fill.Kind(s, defaultPersistentVolume)
	fill.List(s, func(l *corev1.PersistentVolumeList) []corev1.PersistentVolume { return l.Items }, defaultPersistentVolume)
	fill.Kind(s, defaultPersistentVolumeClaim)
	fill.List(s, func(l *corev1.PersistentVolumeClaimList) []corev1.PersistentVolumeClaim { return l.Items }, defaultPersistentVolumeClaim)
	return nil
}
