package admission

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

func itoa(i int) string { return strconv.Itoa(i) }

// use is one place in a pod that names a secret.
type use struct {
	name  string
	where string
}

// secretUses lists volumes and environment, without pull secrets.
func secretUses(pod *corev1.Pod) []use {
	var uses []use
	add := func(name, where string) {
		if name != "" {
			uses = append(uses, use{name: name, where: where})
		}
	}
	for i := range pod.Spec.Volumes {
		for _, name := range volumeSecrets(&pod.Spec.Volumes[i]) {
			add(name, fmt.Sprintf("volume %s", pod.Spec.Volumes[i].Name))
		}
	}
	environment := func(container string, env []corev1.EnvVar, from []corev1.EnvFromSource) {
		for _, v := range env {
			if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
				add(v.ValueFrom.SecretKeyRef.Name, fmt.Sprintf("container %s variable %s", container, v.Name))
			}
		}
		for _, source := range from {
			if source.SecretRef != nil {
				add(source.SecretRef.Name, fmt.Sprintf("container %s", container))
			}
		}
	}
	for _, c := range pod.Spec.InitContainers {
		environment(c.Name, c.Env, c.EnvFrom)
	}
	for _, c := range pod.Spec.Containers {
		environment(c.Name, c.Env, c.EnvFrom)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		environment(c.Name, c.Env, c.EnvFrom)
	}
	return uses
}

func volumeSecrets(v *corev1.Volume) []string {
	local := func(ref *corev1.LocalObjectReference) []string {
		if ref == nil {
			return nil
		}
		return []string{ref.Name}
	}
	switch {
	case v.Secret != nil:
		return []string{v.Secret.SecretName}
	case v.Projected != nil:
		var names []string
		for _, source := range v.Projected.Sources {
			if source.Secret != nil {
				names = append(names, source.Secret.Name)
			}
		}
		return names
	case v.CSI != nil:
		return local(v.CSI.NodePublishSecretRef)
	case v.AzureFile != nil:
		return []string{v.AzureFile.SecretName}
	case v.CephFS != nil:
		return local(v.CephFS.SecretRef)
	case v.Cinder != nil:
		return local(v.Cinder.SecretRef)
	case v.FlexVolume != nil:
		return local(v.FlexVolume.SecretRef)
	case v.ISCSI != nil:
		return local(v.ISCSI.SecretRef)
	case v.RBD != nil:
		return local(v.RBD.SecretRef)
	case v.ScaleIO != nil:
		return local(v.ScaleIO.SecretRef)
	case v.StorageOS != nil:
		return local(v.StorageOS.SecretRef)
	}
	return nil
}

// secretNames are all secrets that pod names, pull secrets included.
func secretNames(pod *corev1.Pod) []string {
	var names []string
	for _, u := range secretUses(pod) {
		names = append(names, u.name)
	}
	for _, ref := range pod.Spec.ImagePullSecrets {
		names = append(names, ref.Name)
	}
	return names
}
