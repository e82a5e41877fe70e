package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePodStatusUpdate judges an update of the status.
func ValidatePodStatusUpdate(p, old *corev1.Pod) field.ErrorList {
	errs := validateMetaUpdate(&p.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validatePodAnnotationsUpdate(p, old)...)
	if p.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(statusPath.Child("nodeName"), "may not be changed directly"))
	}
	if n := p.Status.NominatedNodeName; n != "" && n != old.Status.NominatedNodeName {
		errs = append(errs, invalidEach(statusPath.Child("nominatedNodeName"), n, subdomainName(n, false))...)
	}
	if old.Status.QOSClass != "" && p.Status.QOSClass != old.Status.QOSClass {
		errs = append(errs, field.Invalid(statusPath.Child("qosClass"), p.Status.QOSClass, "field is immutable"))
	}
	if p.Status.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(statusPath.Child("observedGeneration"), p.Status.ObservedGeneration, "must be non-negative"))
	}
	for _, c := range []struct {
		name     string
		now, was []corev1.ContainerStatus
		restarts func(name string, exit int32) bool
	}{
		{"containerStatuses", p.Status.ContainerStatuses, old.Status.ContainerStatuses, mayRestart(old.Spec.Containers, old.Spec.RestartPolicy)},
		{"initContainerStatuses", p.Status.InitContainerStatuses, old.Status.InitContainerStatuses, mayRestart(old.Spec.InitContainers, old.Spec.RestartPolicy)},
		{"ephemeralContainerStatuses", p.Status.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, func(string, int32) bool { return false }},
	} {
		errs = append(errs, validateTransitions(c.now, c.was, c.restarts, statusPath.Child(c.name))...)
	}
	errs = append(errs, validateConditions(p.Status.Conditions, statusPath.Child("conditions"))...)
	errs = append(errs, validateClaimStatuses(p.Status.ResourceClaimStatuses, p.Spec.ResourceClaims, statusPath.Child("resourceClaimStatuses"))...)
	errs = append(errs, validatePodIPs(&p.Status)...)
	return append(errs, validateHostIPs(&p.Status)...)
}

// mayRestart tells which of the listed containers may run again after an exit.
func mayRestart(containers []corev1.Container, policy corev1.RestartPolicy) func(name string, exit int32) bool {
	return func(name string, exit int32) bool {
		i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == name })
		restart := policy
		if i >= 0 {
			c := &containers[i]
			if len(c.RestartPolicyRules) > 0 {
				return true
			}
			if c.RestartPolicy != nil {
				restart = corev1.RestartPolicy(*c.RestartPolicy)
			}
		}
		return restart == corev1.RestartPolicyAlways || (restart == corev1.RestartPolicyOnFailure && exit != 0)
	}
}

// validateTransitions refuses that a container runs again which may not.
func validateTransitions(now, old []corev1.ContainerStatus, restarts func(string, int32) bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, was := range old {
		if was.State.Terminated == nil || restarts(was.Name, was.State.Terminated.ExitCode) {
			continue
		}
		for _, is := range now {
			if is.Name == was.Name && is.State.Terminated == nil {
				errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
			}
		}
	}
	return errs
}

// validateConditions wants generations that can be.
func validateConditions(list []corev1.PodCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range list {
		if c.ObservedGeneration < 0 {
			errs = append(errs, field.Invalid(path.Index(i).Child("observedGeneration"), c.ObservedGeneration, "must be non-negative"))
		}
	}
	return errs
}

func validateClaimStatuses(list []corev1.PodResourceClaimStatus, claims []corev1.PodResourceClaim, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range list {
		at := path.Index(i)
		known := slices.ContainsFunc(claims, func(c corev1.PodResourceClaim) bool { return c.Name == s.Name })
		if !known {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if s.ResourceClaimName != nil {
			errs = append(errs, validateDNSSubdomain(*s.ResourceClaimName, at.Child("name"))...)
		}
	}
	return errs
}

// validatePodIPs wants valid addresses, at most one of each family.
func validatePodIPs(st *corev1.PodStatus) field.ErrorList {
	ips := make([]string, len(st.PodIPs))
	for i := range st.PodIPs {
		ips[i] = st.PodIPs[i].IP
	}
	return validateAddressPair(ips, statusPath.Child("podIPs"))
}

func validateHostIPs(st *corev1.PodStatus) field.ErrorList {
	if len(st.HostIPs) == 0 {
		return nil
	}
	var errs field.ErrorList
	if st.HostIP != st.HostIPs[0].IP {
		errs = append(errs, field.Invalid(statusPath.Child("hostIPs").Index(0).Child("ip"), st.HostIPs[0].IP, "must be equal to `hostIP`"))
	}
	ips := make([]string, len(st.HostIPs))
	for i := range st.HostIPs {
		ips[i] = st.HostIPs[i].IP
	}
	return append(errs, validateAddressPair(ips, statusPath.Child("hostIPs"))...)
}

// validateAddressPair wants one address, or one of each family.
func validateAddressPair(ips []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	four, six := 0, 0
	for i, ip := range ips {
		errs = append(errs, validation.IsValidIPForLegacyField(path.Index(i), ip, strictIPs, nil)...)
		if seen.Has(ip) {
			errs = append(errs, field.Duplicate(path.Index(i), ip))
		}
		seen.Insert(ip)
		switch a, err := netip.ParseAddr(ip); {
		case err != nil:
		case a.Is4():
			four++
		default:
			six++
		}
	}
	if four > 1 || six > 1 {
		errs = append(errs, field.Invalid(path, ips, "may specify no more than one IP for each IP family"))
	}
	return errs
}
