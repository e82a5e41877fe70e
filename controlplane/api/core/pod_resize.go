package core

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePodEphemeralContainersUpdate judges an update through
// /ephemeralcontainers: containers may be added, none removed or changed.
func ValidatePodEphemeralContainersUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validatePodMetaAndSpec(p)...)
	errs = append(errs, validatePodAnnotationsUpdate(p, old)...)
	if _, ok := old.Annotations[mirrorAnnotation]; ok {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	now := make(map[string]*corev1.EphemeralContainer, len(p.Spec.EphemeralContainers))
	for i := range p.Spec.EphemeralContainers {
		now[p.Spec.EphemeralContainers[i].Name] = &p.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		switch is, ok := now[was.Name]; {
		case !ok:
			errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), fmt.Sprintf("existing ephemeral containers %q may not be removed", was.Name)))
		case !equality.Semantic.DeepEqual(was, is):
			errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", was.Name, diff.Diff(was, is))))
		}
	}
	return errs
}

// ValidatePodResize judges an update through /resize: CPU and memory of the main
// containers and sidecars may change as long as the quality of service stays.
func ValidatePodResize(p, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validatePodMetaAndSpec(p)...)
	errs = append(errs, validatePodAnnotationsUpdate(p, old)...)
	if _, ok := old.Annotations[mirrorAnnotation]; ok {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	was := old.Status.QOSClass
	if was == "" {
		was = PodQOS(old)
	}
	if is := PodQOS(p); is != was {
		errs = append(errs, field.Invalid(specPath, is, fmt.Sprintf("Pod QOS Class may not change as a result of resizing, it was %s", was)))
	}
	rest := p.Spec.DeepCopy()
	if len(rest.Containers) == len(old.Spec.Containers) {
		errs = append(errs, restoreResources(rest.Containers, old.Spec.Containers, false, specPath.Child("containers"))...)
	}
	if len(rest.InitContainers) == len(old.Spec.InitContainers) {
		errs = append(errs, restoreResources(rest.InitContainers, old.Spec.InitContainers, true, specPath.Child("initContainers"))...)
	}
	if r, o := rest.Resources, old.Spec.Resources; r != nil && o != nil && onlyComputeDiffers(r, o) {
		*r = *o.DeepCopy()
	}
	if !equality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, fmt.Sprintf("only cpu and memory resources are mutable\n%v", diff.Diff(*rest, old.Spec))))
	}
	return errs
}

// restoreResources puts back the changes of CPU and memory that a resize may make
// and refuses that one of them be removed.
func restoreResources(now, old []corev1.Container, sidecarsOnly bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range now {
		is, was := &now[i].Resources, &old[i].Resources
		if equalList(is.Requests, was.Requests) && equalList(is.Limits, was.Limits) {
			continue
		}
		at := path.Index(i).Child("resources")
		if sidecarsOnly && !isSidecar(&old[i]) {
			// Left as it is, so that the comparison of specs refuses it.
			continue
		}
		if removed(is.Requests, was.Requests) {
			errs = append(errs, field.Forbidden(at, "resource requests cannot be removed"))
		}
		if removed(is.Limits, was.Limits) {
			errs = append(errs, field.Forbidden(at, "resource limits cannot be removed"))
		}
		if onlyComputeDiffers(is, was) {
			*is = *was.DeepCopy()
		}
	}
	return errs
}

// removed says whether CPU or memory was in the old list and is no more.
func removed(now, old corev1.ResourceList) bool {
	for _, name := range qosResources {
		if _, was := old[name]; was {
			if _, is := now[name]; !is {
				return true
			}
		}
	}
	return false
}

func onlyComputeDiffers(a, b *corev1.ResourceRequirements) bool {
	return equalList(without(a.Requests, qosResources...), without(b.Requests, qosResources...)) &&
		equalList(without(a.Limits, qosResources...), without(b.Limits, qosResources...)) &&
		equality.Semantic.DeepEqual(a.Claims, b.Claims)
}
