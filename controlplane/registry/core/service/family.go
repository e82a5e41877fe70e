package service

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// headless is what clusterIP says when there is to be none.
const headless = corev1.ClusterIPNone

func isHeadless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == headless
}

// SetFamilies fills ipFamilyPolicy and ipFamilies for a cluster whose service range is of one family, and refuses what such
// a cluster cannot give. SyncClusterIPs comes before it.
func SetFamilies(s *corev1.Service, cluster corev1.IPFamily) field.ErrorList {
	if !needsClusterIP(s) {
		return nil
	}
	spec := &s.Spec
	if len(spec.IPFamilies) == 0 {
		for _, text := range spec.ClusterIPs {
			if ip, err := netip.ParseAddr(text); err == nil {
				spec.IPFamilies = append(spec.IPFamilies, familyOf(ip))
			}
		}
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{cluster}
	}
	if isHeadless(s) && len(spec.Selector) == 0 {
		setHeadlessFamilies(spec)
		return nil
	}
	if spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		if len(spec.IPFamilies) > 1 || len(spec.ClusterIPs) > 1 {
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		spec.IPFamilyPolicy = &policy
	}
	var errs field.ErrorList
	at := field.NewPath("spec")
	if *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack {
		errs = append(errs, field.Invalid(at.Child("ipFamilyPolicy"), *spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range spec.IPFamilies {
		if family != cluster {
			errs = append(errs, field.Invalid(at.Child("ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	return errs
}

// setHeadlessFamilies is for services whose endpoints somebody else writes: both families are theirs to use.
func setHeadlessFamilies(spec *corev1.ServiceSpec) {
	if spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicyRequireDualStack
		if len(spec.IPFamilies) == 1 && len(spec.ClusterIPs) <= 1 {
			policy = corev1.IPFamilyPolicySingleStack
		}
		spec.IPFamilyPolicy = &policy
	}
	if *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack && len(spec.IPFamilies) == 1 {
		other := corev1.IPv6Protocol
		if spec.IPFamilies[0] == corev1.IPv6Protocol {
			other = corev1.IPv4Protocol
		}
		spec.IPFamilies = append(spec.IPFamilies, other)
	}
}

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// wanted is the address the client asks for: "" any, "None" none.
func wanted(s *corev1.Service) string {
	if len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs[0]
	}
	return s.Spec.ClusterIP
}
