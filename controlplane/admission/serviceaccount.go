package admission

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// What every container finds where client libraries look for it.
const (
	defaultAccount    = "default"
	tokenVolumePrefix = "kube-api-access-"
	tokenMountPath    = "/var/run/secrets/kubernetes.io/serviceaccount"
	rootCAConfigMap   = "kube-root-ca.crt"
	rootCAKey         = "ca.crt"
	// tokenSeconds is an hour and a mark: the API gives tokens of just this lifetime a longer life for clients that do not read
	// the file again.
	tokenSeconds = 60*60 + 7
)

// enforceAnnotation on a service account limits its pods to the secrets that the account lists.
const enforceAnnotation = "kubernetes.io/enforce-mountable-secrets"

// ApplyServiceAccount gives pod what comes with its account: the token volume, unless pod or account opted out, and the
// account's pull secrets, unless the pod brings its own. volumeName draws a name from a prefix. It changes pod.
func ApplyServiceAccount(pod *corev1.Pod, account *corev1.ServiceAccount, volumeName func(prefix string) string) {
	if automount(pod, account) {
		mountToken(pod, volumeName)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), account.ImagePullSecrets...)
	}
}

// automount: the pod's word counts before the account's.
func automount(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	if pod.Spec.AutomountServiceAccountToken != nil {
		return *pod.Spec.AutomountServiceAccountToken
	}
	return ptr.Deref(account.AutomountServiceAccountToken, true)
}

func mountToken(pod *corev1.Pod, volumeName func(prefix string) string) {
	name, have := "", false
	taken := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		taken[v.Name] = true
		if strings.HasPrefix(v.Name, tokenVolumePrefix) && !have {
			name, have = v.Name, true // made by an earlier pass over the same pod, as by apply
		}
	}
	for name == "" || !have && taken[name] {
		name = volumeName(tokenVolumePrefix)
	}
	mount := corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenMountPath}
	needed := false
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if !mountsAt(&containers[i], tokenMountPath) {
				containers[i].VolumeMounts = append(containers[i].VolumeMounts, mount)
				needed = true
			}
		}
	}
	if needed && !have {
		pod.Spec.Volumes = append(pod.Spec.Volumes, tokenVolume(name))
	}
}

func mountsAt(c *corev1.Container, path string) bool {
	for _, m := range c.VolumeMounts {
		if m.MountPath == path {
			return true
		}
	}
	return false
}

// tokenVolume holds token, CA and namespace, in files of one directory that changes atomically.
func tokenVolume(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](tokenSeconds)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: rootCAKey, Path: rootCAKey}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}}}
}

// isMirror says whether a node made the pod to show a static one.
func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// mirrorProblem says why a mirror pod is refused: it could make a node read what it should not.
func mirrorProblem(pod *corev1.Pod) string {
	if pod.Spec.ServiceAccountName != "" {
		return "a mirror pod may not reference service accounts"
	}
	if len(secretNames(pod)) > 0 {
		return "a mirror pod may not reference secrets"
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil {
				return "a mirror pod may not use ServiceAccountToken volume projections"
			}
		}
	}
	return ""
}

// secretProblem says which secret pod may not use, for an account that limits its pods to its own.
func secretProblem(pod *corev1.Pod, account *corev1.ServiceAccount) string {
	if account.Annotations[enforceAnnotation] != "true" {
		return ""
	}
	mountable, pullable := map[string]bool{}, map[string]bool{}
	for _, ref := range account.Secrets {
		mountable[ref.Name] = true
	}
	for _, ref := range account.ImagePullSecrets {
		pullable[ref.Name] = true
	}
	for _, use := range secretUses(pod) {
		if !mountable[use.name] {
			return use.where + " with secret.secretName=\"" + use.name + "\" is not allowed because service account " + account.Name +
				" does not reference that secret"
		}
	}
	for i, ref := range pod.Spec.ImagePullSecrets {
		if !pullable[ref.Name] {
			return "imagePullSecrets[" + itoa(i) + "].name=\"" + ref.Name + "\" is not allowed because service account " + account.Name +
				" does not reference that imagePullSecret"
		}
	}
	return ""
}
