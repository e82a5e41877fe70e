package pod

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Warn is what the author of a pod should hear. Nothing is said on an update that leaves the spec as it was.
func Warn(p, old *corev1.Pod) []string {
	if old != nil && old.Generation == p.Generation {
		return nil
	}
	var out []string
	if msgs := validation.IsDNS1123Label(p.Name); old == nil && p.GenerateName == "" && len(msgs) > 0 {
		out = append(out, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	return append(out, WarnSpec(field.NewPath("spec"), &p.Spec)...)
}

// WarnTemplate is the same for a pod template; old is nil on create.
func WarnTemplate(at *field.Path, t, old *corev1.PodTemplateSpec) []string {
	if old != nil && old.Spec.String() == t.Spec.String() {
		return nil
	}
	return WarnSpec(at.Child("spec"), &t.Spec)
}

// WarnSpec names what is valid and yet not what its author can have meant.
func WarnSpec(at *field.Path, s *corev1.PodSpec) []string {
	var out []string
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		out = append(out, fmt.Sprintf("%s: must be >= 0; negative values are invalid and will be treated as 1", at.Child("terminationGracePeriodSeconds")))
	}
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
		for i := range list.containers {
			out = append(out, warnContainer(at.Child(list.name).Index(i), &list.containers[i])...)
		}
	}
	return append(out, warnPorts(at, s)...)
}

func warnContainer(at *field.Path, c *corev1.Container) []string {
	var out []string
	seen := map[string]corev1.EnvVar{}
	for i, e := range c.Env {
		before, again := seen[e.Name]
		// PATH=/x:$(PATH) builds on the earlier one.
		if again && !strings.Contains(e.Value, "$("+e.Name+")") {
			text := "%s: hides previous definition of %q, which may be dropped when using apply"
			if e.String() == before.String() {
				text = "%s: duplicate of earlier definition of %q"
			}
			out = append(out, fmt.Sprintf(text, at.Child("env").Index(i), e.Name))
		}
		seen[e.Name] = e
	}
	for _, part := range []struct {
		name string
		list corev1.ResourceList
	}{{"limits", c.Resources.Limits}, {"requests", c.Resources.Requests}} {
		for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			if q, ok := part.list[name]; ok && q.MilliValue()%1000 != 0 {
				out = append(out, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", at.Child("resources", part.name).Key(string(name)), q.String()))
			}
		}
	}
	return out
}

// warnPorts finds a port that two entries of one pod name: the second does nothing, and apply may drop it.
func warnPorts(at *field.Path, s *corev1.PodSpec) []string {
	type key struct {
		protocol corev1.Protocol
		port     int32
		host     int32
		ip       string
	}
	var out []string
	seen := map[key]*field.Path{}
	for i, c := range s.Containers {
		for j, p := range c.Ports {
			here := at.Child("containers").Index(i).Child("ports").Index(j)
			k := key{p.Protocol, p.ContainerPort, p.HostPort, p.HostIP}
			if first, again := seen[k]; again {
				out = append(out, fmt.Sprintf("%s: duplicate port definition with %s", here, first))
				continue
			}
			seen[k] = here
		}
	}
	return out
}
