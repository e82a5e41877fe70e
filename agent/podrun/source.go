package podrun

import (
	v1 "k8s.io/api/core/v1"

	"coracle/agent/store"
)

// sourcesOf names the ConfigMaps and Secrets that a pod refers to.
func sourcesOf(p *v1.Pod) map[string]bool {
	out := map[string]bool{}
	configMap := func(name string) { out[store.KindConfigMap+"/"+name] = true }
	secret := func(name string) { out[store.KindSecret+"/"+name] = true }
	for _, s := range p.Spec.ImagePullSecrets {
		secret(s.Name)
	}
	containers := append(append([]v1.Container(nil), p.Spec.InitContainers...), p.Spec.Containers...)
	for _, e := range p.Spec.EphemeralContainers {
		containers = append(containers, v1.Container(e.EphemeralContainerCommon))
	}
	for _, c := range containers {
		for _, f := range c.EnvFrom {
			if f.ConfigMapRef != nil {
				configMap(f.ConfigMapRef.Name)
			}
			if f.SecretRef != nil {
				secret(f.SecretRef.Name)
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom == nil {
				continue
			}
			if k := e.ValueFrom.ConfigMapKeyRef; k != nil {
				configMap(k.Name)
			}
			if k := e.ValueFrom.SecretKeyRef; k != nil {
				secret(k.Name)
			}
		}
	}
	for _, v := range p.Spec.Volumes {
		volumeSources(v, configMap, secret)
	}
	return out
}

func volumeSources(v v1.Volume, configMap, secret func(string)) {
	switch {
	case v.ConfigMap != nil:
		configMap(v.ConfigMap.Name)
	case v.Secret != nil:
		secret(v.Secret.SecretName)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil {
				configMap(s.ConfigMap.Name)
			}
			if s.Secret != nil {
				secret(s.Secret.Name)
			}
		}
	}
}
