package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateServiceUpdate judges an update, after what the user left out has been
// taken over from the old service.
func ValidateServiceUpdate(s, old *corev1.Service) field.ErrorList {
	errs := validateMetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateAddressUpdate(s, old)...)
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer {
		is, was := s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass
		if (is == nil) != (was == nil) || (is != nil && *is != *was) {
			errs = append(errs, field.Invalid(specPath.Child("loadBalancerClass"), is, "may not change once set"))
		}
	}
	return append(errs, ValidateService(s)...)
}

// validateAddressUpdate keeps the addresses and families of a service that had and
// has some. A second family may come or go; the first stays.
func validateAddressUpdate(s, old *corev1.Service) field.ErrorList {
	if s.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var errs field.ErrorList
	at := specPath.Child("clusterIPs")
	is, was := addresses(s), addresses(old)
	for i := range was {
		if i >= len(is) {
			if i == 0 {
				errs = append(errs, field.Invalid(at.Index(0), is, "primary clusterIP can not be unset"))
			} else if s.Spec.IPFamilyPolicy == nil || *s.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
				errs = append(errs, field.Invalid(at, is, "can only be decreased when `ipFamilyPolicy` is SingleStack"))
			}
			break
		}
		if is[i] != was[i] {
			errs = append(errs, field.Invalid(at.Index(i), is, "may not change once set"))
		}
	}
	at = specPath.Child("ipFamilies")
	for i, f := range old.Spec.IPFamilies {
		if i >= len(s.Spec.IPFamilies) {
			if i == 0 {
				errs = append(errs, field.Invalid(at.Index(0), s.Spec.IPFamilies, "primary ipFamily can not be unset"))
			}
			break
		}
		if s.Spec.IPFamilies[i] != f {
			errs = append(errs, field.Invalid(at.Index(i), s.Spec.IPFamilies, "may not change once set"))
		}
	}
	return errs
}

// addresses returns the cluster addresses, whichever field holds them.
func addresses(s *corev1.Service) []string {
	if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP != "" {
		return []string{s.Spec.ClusterIP}
	}
	return slices.DeleteFunc(slices.Clone(s.Spec.ClusterIPs), func(ip string) bool { return ip == "" })
}

// ValidateServiceStatusUpdate judges an update of the status.
func ValidateServiceStatusUpdate(s, old *corev1.Service) field.ErrorList {
	errs := validateMetaUpdate(&s.ObjectMeta, &old.ObjectMeta)
	at := statusPath.Child("loadBalancer", "ingress")
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer && len(s.Status.LoadBalancer.Ingress) > 0 {
		return append(errs, field.Forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'"))
	}
	for i, in := range s.Status.LoadBalancer.Ingress {
		errs = append(errs, validateIngress(&in, at.Index(i))...)
	}
	return errs
}

func validateIngress(in *corev1.LoadBalancerIngress, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if in.IP != "" {
		errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), in.IP, strictIPs, nil)...)
		if in.IPMode == nil {
			errs = append(errs, field.Required(at.Child("ipMode"), "must be specified when `ip` is set"))
		}
	} else if in.IPMode != nil {
		errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
	}
	if m := in.IPMode; m != nil && *m != corev1.LoadBalancerIPModeVIP && *m != corev1.LoadBalancerIPModeProxy {
		errs = append(errs, field.NotSupported(at.Child("ipMode"), *m, []corev1.LoadBalancerIPMode{corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP}))
	}
	if in.Hostname == "" {
		return errs
	}
	errs = append(errs, validateDNSSubdomain(in.Hostname, at.Child("hostname"))...)
	if _, err := netip.ParseAddr(in.Hostname); err == nil {
		errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
	}
	return errs
}

// ValidateEndpointIP refuses addresses that cannot be an endpoint on the network:
// unspecified, loopback and link-local ones.
func ValidateEndpointIP(ip string, path *field.Path) field.ErrorList {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return field.ErrorList{field.Invalid(path, ip, "must be a valid IP address")}
	}
	a = a.Unmap()
	bad := func(why string) field.ErrorList { return field.ErrorList{field.Invalid(path, ip, why)} }
	switch {
	case a.IsUnspecified():
		return bad("may not be unspecified (0.0.0.0 or ::)")
	case a.IsLoopback():
		return bad("may not be in the loopback range (127.0.0.0/8, ::1/128)")
	case a.IsLinkLocalUnicast():
		return bad("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
	case a.IsLinkLocalMulticast():
		return bad("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
	}
	return nil
}

// ValidateEndpoints judges endpoints about to be created.
func ValidateEndpoints(e *corev1.Endpoints) field.ErrorList {
	errs := validateMeta(&e.ObjectMeta, true, subdomainName)
	for i := range e.Subsets {
		s, at := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(at, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, validateEndpointAddress(&s.Addresses[j], at.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(&s.NotReadyAddresses[j], at.Child("notReadyAddresses").Index(j))...)
		}
		for j := range s.Ports {
			p, at := &s.Ports[j], at.Child("ports").Index(j)
			if p.Name == "" && len(s.Ports) > 1 {
				errs = append(errs, field.Required(at.Child("name"), ""))
			} else if p.Name != "" {
				errs = append(errs, validateDNSLabel(p.Name, at.Child("name"))...)
			}
			errs = append(errs, invalidEach(at.Child("port"), p.Port, validation.IsValidPortNum(int(p.Port)))...)
			errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
			if p.AppProtocol != nil {
				errs = append(errs, validateQualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
			}
		}
	}
	return errs
}

func validateEndpointAddress(a *corev1.EndpointAddress, at *field.Path) field.ErrorList {
	errs := validation.IsValidIPForLegacyField(at.Child("ip"), a.IP, strictIPs, nil)
	if a.Hostname != "" {
		errs = append(errs, validateDNSLabel(a.Hostname, at.Child("hostname"))...)
	}
	if n := a.NodeName; n != nil {
		errs = append(errs, invalidEach(at.Child("nodeName"), *n, subdomainName(*n, false))...)
	}
	if len(errs) > 0 {
		return errs
	}
	return ValidateEndpointIP(a.IP, at.Child("ip"))
}

// ValidateEndpointsUpdate judges an update.
func ValidateEndpointsUpdate(e, old *corev1.Endpoints) field.ErrorList {
	errs := validateMetaUpdate(&e.ObjectMeta, &old.ObjectMeta)
	return append(errs, ValidateEndpoints(e)...)
}
