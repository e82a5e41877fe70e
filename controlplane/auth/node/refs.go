package node

import (
	corev1 "k8s.io/api/core/v1"
)

// Set is a set of namespaced names; the namespace is empty for cluster-wide objects.
type Set map[[2]string]struct{}

// Has says whether namespace/name is in s.
func (s Set) Has(namespace, name string) bool {
	_, ok := s[[2]string{namespace, name}]
	return ok
}

func (s Set) add(namespace, name string) {
	if name != "" {
		s[[2]string{namespace, name}] = struct{}{}
	}
}

// Refs are the objects that the pods of a node name.
type Refs struct {
	Pods, Secrets, ConfigMaps, Claims, ServiceAccounts Set
	// Volumes and Attachments are cluster-wide. They follow from claims and from the attach controller; the caller adds them.
	Volumes, Attachments Set
}

// RefsOf collects the references of pods. Mirror pods name nothing: a node makes them itself and could name anything.
func RefsOf(pods []*corev1.Pod) Refs {
	r := Refs{Pods: Set{}, Secrets: Set{}, ConfigMaps: Set{}, Claims: Set{}, ServiceAccounts: Set{}, Volumes: Set{}, Attachments: Set{}}
	for _, pod := range pods {
		r.Pods.add(pod.Namespace, pod.Name)
		if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
			continue
		}
		r.ServiceAccounts.add(pod.Namespace, pod.Spec.ServiceAccountName)
		for _, ref := range pod.Spec.ImagePullSecrets {
			r.Secrets.add(pod.Namespace, ref.Name)
		}
		r.addContainers(pod)
		for i := range pod.Spec.Volumes {
			r.addVolume(pod, &pod.Spec.Volumes[i])
		}
	}
	return r
}

func (r Refs) addContainers(pod *corev1.Pod) {
	add := func(from []corev1.EnvFromSource, env []corev1.EnvVar) {
		for _, source := range from {
			if source.ConfigMapRef != nil {
				r.ConfigMaps.add(pod.Namespace, source.ConfigMapRef.Name)
			}
			if source.SecretRef != nil {
				r.Secrets.add(pod.Namespace, source.SecretRef.Name)
			}
		}
		for _, v := range env {
			if v.ValueFrom == nil {
				continue
			}
			if ref := v.ValueFrom.ConfigMapKeyRef; ref != nil {
				r.ConfigMaps.add(pod.Namespace, ref.Name)
			}
			if ref := v.ValueFrom.SecretKeyRef; ref != nil {
				r.Secrets.add(pod.Namespace, ref.Name)
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		add(pod.Spec.InitContainers[i].EnvFrom, pod.Spec.InitContainers[i].Env)
	}
	for i := range pod.Spec.Containers {
		add(pod.Spec.Containers[i].EnvFrom, pod.Spec.Containers[i].Env)
	}
	for i := range pod.Spec.EphemeralContainers {
		add(pod.Spec.EphemeralContainers[i].EnvFrom, pod.Spec.EphemeralContainers[i].Env)
	}
}

func (r Refs) addVolume(pod *corev1.Pod, v *corev1.Volume) {
	namespace := pod.Namespace
	secret := func(ref *corev1.LocalObjectReference) {
		if ref != nil {
			r.Secrets.add(namespace, ref.Name)
		}
	}
	switch {
	case v.Secret != nil:
		r.Secrets.add(namespace, v.Secret.SecretName)
	case v.ConfigMap != nil:
		r.ConfigMaps.add(namespace, v.ConfigMap.Name)
	case v.PersistentVolumeClaim != nil:
		r.Claims.add(namespace, v.PersistentVolumeClaim.ClaimName)
	case v.Ephemeral != nil:
		r.Claims.add(namespace, pod.Name+"-"+v.Name)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if source.Secret != nil {
				r.Secrets.add(namespace, source.Secret.Name)
			}
			if source.ConfigMap != nil {
				r.ConfigMaps.add(namespace, source.ConfigMap.Name)
			}
		}
	case v.CSI != nil:
		secret(v.CSI.NodePublishSecretRef)
	case v.AzureFile != nil:
		r.Secrets.add(namespace, v.AzureFile.SecretName)
	case v.CephFS != nil:
		secret(v.CephFS.SecretRef)
	case v.Cinder != nil:
		secret(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		secret(v.FlexVolume.SecretRef)
	case v.ISCSI != nil:
		secret(v.ISCSI.SecretRef)
	case v.RBD != nil:
		secret(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		secret(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		secret(v.StorageOS.SecretRef)
	}
}
