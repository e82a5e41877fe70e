package core

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	// mirrorAnnotation marks a pod that stands for a static pod of a node.
	mirrorAnnotation = corev1.MirrorPodAnnotationKey

	// deletionCostAnnotation ranks the pods of a ReplicaSet for scaling down.
	deletionCostAnnotation = corev1.PodDeletionCost
)

// ValidatePod judges a pod about to be created.
func ValidatePod(p *corev1.Pod) field.ErrorList {
	errs := validatePodMetaAndSpec(p)
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create; use the ephemeralcontainers subresource"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set while schedulingGates remain"))
	}
	if p.Status.PodIP != "" || len(p.Status.PodIPs) > 0 {
		errs = append(errs, validatePodIPs(&p.Status)...)
	}
	return errs
}

// validatePodMetaAndSpec holds what is checked at each write of a pod.
func validatePodMetaAndSpec(p *corev1.Pod) field.ErrorList {
	errs := validateMeta(&p.ObjectMeta, true, subdomainName)
	errs = append(errs, validatePodAnnotations(p.Annotations, &p.Spec, metaPath.Child("annotations"))...)
	errs = append(errs, validatePodSpec(&p.Spec, podContext{meta: &p.ObjectMeta}, specPath)...)
	if p.Spec.ServiceAccountName == "" {
		errs = append(errs, forbidTokens(p.Spec.Volumes)...)
	}
	errs = append(errs, validateImageSpace(p.Spec.InitContainers, specPath.Child("initContainers"))...)
	return append(errs, validateImageSpace(p.Spec.Containers, specPath.Child("containers"))...)
}

// forbidTokens refuses projected tokens of a pod that has no service account.
func forbidTokens(volumes []corev1.Volume) field.ErrorList {
	var errs field.ErrorList
	for i := range volumes {
		if volumes[i].Projected == nil {
			continue
		}
		for j := range volumes[i].Projected.Sources {
			if volumes[i].Projected.Sources[j].ServiceAccountToken != nil {
				path := specPath.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken")
				errs = append(errs, field.Forbidden(path, "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	return errs
}

// validateImageSpace refuses image names padded with blanks. Templates written
// long ago may have them, so only pods are checked.
func validateImageSpace(containers []corev1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range containers {
		if image := containers[i].Image; image != strings.TrimSpace(image) {
			errs = append(errs, field.Invalid(path.Index(i).Child("image"), image, "must not have leading or trailing whitespace"))
		}
	}
	return errs
}

// validatePodAnnotations checks the annotations that the system gives a meaning.
func validatePodAnnotations(annotations map[string]string, spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if v, ok := annotations[mirrorAnnotation]; ok && spec.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(mirrorAnnotation), v, "spec.nodeName must be set on a mirror pod"))
	}
	if v, ok := annotations[deletionCostAnnotation]; ok {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || strconv.FormatInt(n, 10) != v {
			errs = append(errs, field.Invalid(path.Key(deletionCostAnnotation), v, "must be a 32-bit integer in its shortest decimal form"))
		}
	}
	return errs
}

// validatePodAnnotationsUpdate keeps the mirror annotation as it was created.
func validatePodAnnotationsUpdate(p, old *corev1.Pod) field.ErrorList {
	was, wasMirror := old.Annotations[mirrorAnnotation]
	is, isMirror := p.Annotations[mirrorAnnotation]
	path := metaPath.Child("annotations").Key(mirrorAnnotation)
	switch {
	case wasMirror && (!isMirror || was != is):
		return field.ErrorList{field.Invalid(path, is, "may not be removed or updated")}
	case !wasMirror && isMirror:
		return field.ErrorList{field.Invalid(path, is, "may not be added")}
	}
	return nil
}

// ValidatePodTemplateSpec judges the template that a workload makes its pods of.
func ValidatePodTemplateSpec(t *corev1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := metavalidation.ValidateLabels(t.Labels, path.Child("labels"))
	errs = append(errs, apivalidation.ValidateAnnotations(t.Annotations, path.Child("annotations"))...)
	errs = append(errs, validatePodAnnotations(t.Annotations, &t.Spec, path.Child("annotations"))...)
	errs = append(errs, validatePodSpec(&t.Spec, podContext{}, path.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(path.Child("spec", "ephemeralContainers"), "not allowed in a pod template"))
	}
	return errs
}

// ValidatePodTemplate judges a pod template object about to be created.
func ValidatePodTemplate(t *corev1.PodTemplate) field.ErrorList {
	errs := validateMeta(&t.ObjectMeta, true, subdomainName)
	return append(errs, ValidatePodTemplateSpec(&t.Template, field.NewPath("template"))...)
}

// ValidatePodTemplateUpdate judges an update.
func ValidatePodTemplateUpdate(t, old *corev1.PodTemplate) field.ErrorList {
	errs := validateMetaUpdate(&t.ObjectMeta, &old.ObjectMeta)
	return append(errs, ValidatePodTemplateSpec(&t.Template, field.NewPath("template"))...)
}

// ValidateBinding judges the binding of a pod to a node.
func ValidateBinding(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	if k := b.Target.Kind; k != "" && k != "Node" {
		errs = append(errs, field.NotSupported(field.NewPath("target", "kind"), k, []string{"Node", "<empty>"}))
	}
	return append(errs, required(b.Target.Name, field.NewPath("target", "name"))...)
}
