package pod

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// environment is an ordered set of variables: setting one again replaces it in its place.
type environment struct {
	order  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.order = append(e.order, name)
	}
	e.values[name] = value
}

func (e *environment) lookup() func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := e.values[name]
		return v, ok
	}
}

func (e *environment) list() []EnvVar {
	out := make([]EnvVar, 0, len(e.order))
	for _, name := range e.order {
		out = append(out, EnvVar{Name: name, Value: e.values[name]})
	}
	return out
}

// resolveEnv lays env over envFrom over the services' variables. A reference in a value sees
// what was set before it.
func resolveEnv(pod *v1.Pod, c *v1.Container, src Sources) (*environment, error) {
	e := &environment{values: map[string]string{}}
	for _, v := range ServiceEnv(pod, src.Services) {
		e.set(v.Name, v.Value)
	}
	for i := range c.EnvFrom {
		if err := e.addFrom(pod, &c.EnvFrom[i], src); err != nil {
			return nil, err
		}
	}
	for i := range c.Env {
		v := &c.Env[i]
		if v.ValueFrom == nil {
			e.set(v.Name, Expand(v.Value, e.lookup()))
			continue
		}
		value, ok, err := valueFrom(pod, c, v.ValueFrom, src)
		if err != nil {
			return nil, err
		}
		if ok {
			e.set(v.Name, value)
		}
	}
	return e, nil
}

// addFrom adds all keys of a ConfigMap or Secret. Keys that no variable can be called by are skipped.
func (e *environment) addFrom(pod *v1.Pod, from *v1.EnvFromSource, src Sources) error {
	add := func(key, value string) {
		name := from.Prefix + key
		if len(validation.IsRelaxedEnvVarName(name)) == 0 {
			e.set(name, value)
		}
	}
	switch {
	case from.ConfigMapRef != nil:
		cm, err := configMap(pod.Namespace, from.ConfigMapRef.Name, from.ConfigMapRef.Optional, src)
		if err != nil || cm == nil {
			return err
		}
		for _, k := range slices.Sorted(maps.Keys(cm.Data)) {
			add(k, cm.Data[k])
		}
	case from.SecretRef != nil:
		s, err := secret(pod.Namespace, from.SecretRef.Name, from.SecretRef.Optional, src)
		if err != nil || s == nil {
			return err
		}
		for _, k := range slices.Sorted(maps.Keys(s.Data)) {
			add(k, string(s.Data[k]))
		}
	}
	return nil
}

// valueFrom gives the value that a variable refers to; ok is false where it is optional and missing.
func valueFrom(pod *v1.Pod, c *v1.Container, from *v1.EnvVarSource, src Sources) (value string, ok bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = fieldValue(pod, from.FieldRef.FieldPath, src)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = resourceValue(pod, c, from.ResourceFieldRef, src.Allocatable)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		cm, err := configMap(pod.Namespace, r.Name, r.Optional, src)
		if err != nil || cm == nil {
			return "", false, err
		}
		if v, ok := cm.Data[r.Key]; ok {
			return v, true, nil
		}
		if isTrue(r.Optional) {
			return "", false, nil
		}
		return "", false, configErrorf("couldn't find key %v in ConfigMap %v/%v", r.Key, pod.Namespace, r.Name)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		s, err := secret(pod.Namespace, r.Name, r.Optional, src)
		if err != nil || s == nil {
			return "", false, err
		}
		if v, ok := s.Data[r.Key]; ok {
			return string(v), true, nil
		}
		if isTrue(r.Optional) {
			return "", false, nil
		}
		return "", false, configErrorf("couldn't find key %v in Secret %v/%v", r.Key, pod.Namespace, r.Name)
	case from.FileKeyRef != nil:
		r := from.FileKeyRef
		return envFileKey(r.VolumeName, r.Path, r.Key, isTrue(r.Optional), src)
	}
	return "", true, nil
}

func configMap(namespace, name string, optional *bool, src Sources) (*v1.ConfigMap, error) {
	if src.ConfigMap != nil {
		if cm, ok := src.ConfigMap(namespace, name); ok {
			return cm, nil
		}
	}
	if isTrue(optional) {
		return nil, nil
	}
	return nil, configErrorf("configmap %q not found", name)
}

func secret(namespace, name string, optional *bool, src Sources) (*v1.Secret, error) {
	if src.Secret != nil {
		if s, ok := src.Secret(namespace, name); ok {
			return s, nil
		}
	}
	if isTrue(optional) {
		return nil, nil
	}
	return nil, configErrorf("secret %q not found", name)
}

func isTrue(b *bool) bool { return b != nil && *b }
