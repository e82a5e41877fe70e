package core

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podContext is what the checks of a pod's parts need to know about the whole.
type podContext struct {
	// meta is nil in a template.
	meta *metav1.ObjectMeta
	// volumes holds the sound volumes by name.
	volumes map[string]corev1.VolumeSource
	// claims holds the names of the pod's resource claims.
	claims map[string]bool
	// grace is the pod's termination grace period in seconds.
	grace int64
	// restart is the pod's restart policy.
	restart corev1.RestartPolicy
	// hostUsers is false only where the pod has a user namespace of its own.
	hostUsers bool
	// os is empty where the pod names none.
	os corev1.OSName
}

// validatePodSpec judges a pod spec, in a pod (pc.meta set) or in a template.
func validatePodSpec(spec *corev1.PodSpec, pc podContext, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.TerminationGracePeriodSeconds != nil {
		pc.grace = *spec.TerminationGracePeriodSeconds
	}
	pc.restart = spec.RestartPolicy
	pc.hostUsers = spec.HostUsers == nil || *spec.HostUsers
	if spec.OS != nil {
		pc.os = spec.OS.Name
	}
	vols, volErrs := validateVolumes(spec.Volumes, pc, path.Child("volumes"))
	pc.volumes = vols
	errs = append(errs, volErrs...)
	claims, claimErrs := validatePodClaims(spec.ResourceClaims, pc.meta, path.Child("resourceClaims"))
	pc.claims = claims
	errs = append(errs, claimErrs...)

	errs = append(errs, validateContainers(spec.Containers, pc, path.Child("containers"))...)
	errs = append(errs, validateInitContainers(spec.InitContainers, spec.Containers, pc, path.Child("initContainers"))...)
	errs = append(errs, validateEphemeralContainers(spec, pc, path.Child("ephemeralContainers"))...)
	errs = append(errs, validatePodResources(spec, path.Child("resources"))...)
	errs = append(errs, oneOf(spec.RestartPolicy, path.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)...)
	errs = append(errs, validatePodNetwork(spec, path)...)
	errs = append(errs, validatePodSecurity(spec, path)...)
	errs = append(errs, validatePodPlacement(spec, pc.meta != nil, path)...)
	errs = append(errs, validatePodNames(spec, path)...)
	if d := spec.ActiveDeadlineSeconds; d != nil && (*d < 1 || *d > math.MaxInt32) {
		errs = append(errs, field.Invalid(path.Child("activeDeadlineSeconds"), *d, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	for i, gate := range spec.ReadinessGates {
		errs = append(errs, validateQualifiedName(string(gate.ConditionType), path.Child("readinessGates").Index(i).Child("conditionType"))...)
	}
	if spec.Overhead != nil {
		errs = append(errs, validateResources(&corev1.ResourceRequirements{Limits: spec.Overhead}, nil, path.Child("overhead"))...)
	}
	errs = append(errs, validateEvictionResponders(spec, path.Child("evictionResponders"))...)
	return append(errs, validatePodOS(spec, path)...)
}

// validatePodPlacement checks where a pod may run, and when. inPod is false in a
// template.
func validatePodPlacement(spec *corev1.PodSpec, inPod bool, path *field.Path) field.ErrorList {
	errs := metavalidation.ValidateLabels(spec.NodeSelector, path.Child("nodeSelector"))
	errs = append(errs, validateAffinity(spec.Affinity, path.Child("affinity"))...)
	errs = append(errs, validateSpread(spec.TopologySpreadConstraints, inPod, path.Child("topologySpreadConstraints"))...)
	errs = append(errs, ValidateTolerations(spec.Tolerations, path.Child("tolerations"))...)
	seen := map[string]bool{}
	for i, gate := range spec.SchedulingGates {
		at := path.Child("schedulingGates").Index(i)
		errs = append(errs, validateQualifiedName(gate.Name, at)...)
		if seen[gate.Name] {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		seen[gate.Name] = true
	}
	if g := spec.SchedulingGroup; g != nil {
		at := path.Child("schedulingGroup", "podGroupName")
		if g.PodGroupName == nil {
			errs = append(errs, field.Required(at, ""))
		} else {
			errs = append(errs, invalidEach(at, *g.PodGroupName, subdomainName(*g.PodGroupName, false))...)
		}
	}
	return append(errs, oneOfPointer(spec.PreemptionPolicy, path.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
}

// validatePodNames checks the names by which a pod refers to other objects.
func validatePodNames(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := []struct{ field, value string }{
		{"serviceAccountName", spec.ServiceAccountName},
		{"nodeName", spec.NodeName},
		{"priorityClassName", spec.PriorityClassName},
	}
	for _, n := range names {
		if n.value != "" {
			errs = append(errs, invalidEach(path.Child(n.field), n.value, subdomainName(n.value, false))...)
		}
	}
	if c := spec.RuntimeClassName; c != nil {
		errs = append(errs, invalidEach(path.Child("runtimeClassName"), *c, subdomainName(*c, false))...)
	}
	return errs
}

// maxEvictionResponders bounds the list of a pod's eviction responders.
const maxEvictionResponders = 10

func validateEvictionResponders(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(spec.EvictionResponders); n > maxEvictionResponders {
		errs = append(errs, field.TooMany(path, n, maxEvictionResponders))
	}
	if len(spec.EvictionResponders) > 0 && spec.SchedulingGroup != nil {
		errs = append(errs, field.Forbidden(path, "may not be set together with schedulingGroup"))
	}
	seen := map[string]bool{}
	for i, r := range spec.EvictionResponders {
		at := path.Index(i)
		if r.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, validation.IsDomainPrefixedKey(at.Child("name"), r.Name)...)
		}
		if seen[r.Name] {
			errs = append(errs, field.Duplicate(at, r.Name))
		}
		seen[r.Name] = true
		switch {
		case r.Priority == nil:
			errs = append(errs, field.Required(at.Child("priority"), ""))
		case *r.Priority < 0 || *r.Priority > 100000:
			errs = append(errs, field.Invalid(at.Child("priority"), *r.Priority, validation.InclusiveRangeError(0, 100000)))
		}
	}
	return errs
}

// eachContainer calls back for every container of a pod with its path.
func eachContainer(spec *corev1.PodSpec, path *field.Path, f func(c *corev1.Container, at *field.Path)) {
	for i := range spec.InitContainers {
		f(&spec.InitContainers[i], path.Child("initContainers").Index(i))
	}
	for i := range spec.Containers {
		f(&spec.Containers[i], path.Child("containers").Index(i))
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		f(&c, path.Child("ephemeralContainers").Index(i))
	}
}
