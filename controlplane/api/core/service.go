package core

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// kubeletPort is never exposed by a load balancer: on clouds whose firewalls open
// too much it would open every node.
const kubeletPort = 10250

// maxAffinitySeconds is the longest that a client is kept with its endpoint: a day.
const maxAffinitySeconds = 86400

// IsHeadless says whether a service has no address of its own.
func IsHeadless(s *corev1.Service) bool {
	return s.Spec.ClusterIP == corev1.ClusterIPNone || (len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone)
}

// ValidateService judges a service about to be created, after addresses and node
// ports have been given to it.
func ValidateService(s *corev1.Service) field.ErrorList {
	errs := validateMeta(&s.ObjectMeta, true, labelName)
	errs = append(errs, oneOf(s.Spec.Type, specPath.Child("type"), corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)...)
	errs = append(errs, validateServiceByType(s)...)
	errs = append(errs, validateServicePorts(s)...)
	errs = append(errs, metavalidation.ValidateLabels(s.Spec.Selector, specPath.Child("selector"))...)
	errs = append(errs, validateServiceAffinity(&s.Spec)...)
	errs = append(errs, validateClusterIPs(s)...)
	for i, ip := range s.Spec.ExternalIPs {
		at := specPath.Child("externalIPs").Index(i)
		if found := validation.IsValidIPForLegacyField(at, ip, strictIPs, nil); len(found) > 0 {
			errs = append(errs, found...)
			continue
		}
		errs = append(errs, ValidateEndpointIP(ip, at)...)
	}
	errs = append(errs, validateLoadBalancerFields(s)...)
	return append(errs, validateTrafficPolicies(s)...)
}

// validateServiceByType checks what each type demands and forbids.
func validateServiceByType(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	if len(spec.Ports) == 0 && !IsHeadless(s) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(specPath.Child("ports"), ""))
	}
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs").Index(0), corev1.ClusterIPNone, fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
		}
		if spec.Type == corev1.ServiceTypeNodePort {
			break
		}
		for i := range spec.Ports {
			if spec.Ports[i].Port == kubeletPort {
				errs = append(errs, field.Invalid(specPath.Child("ports").Index(i), spec.Ports[i].Port, fmt.Sprintf("may not expose port %d externally since it is used by kubelet", kubeletPort)))
			}
		}
	case corev1.ServiceTypeExternalName:
		for _, f := range []struct {
			name string
			set  bool
		}{
			{"clusterIPs", len(spec.ClusterIPs) > 0 || spec.ClusterIP != ""},
			{"ipFamilies", len(spec.IPFamilies) > 0},
			{"ipFamilyPolicy", spec.IPFamilyPolicy != nil},
		} {
			if f.set {
				errs = append(errs, field.Forbidden(specPath.Child(f.name), "may not be set for ExternalName services"))
			}
		}
		if name := strings.TrimSuffix(spec.ExternalName, "."); name != "" {
			errs = append(errs, validateDNSSubdomain(name, specPath.Child("externalName"))...)
		} else {
			errs = append(errs, field.Required(specPath.Child("externalName"), ""))
		}
	}
	return errs
}

func validateServicePorts(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("ports")
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	names, ports, nodePorts := map[string]bool{}, map[key]bool{}, map[key]bool{}
	for i := range s.Spec.Ports {
		p, at := &s.Spec.Ports[i], path.Index(i)
		switch {
		case p.Name == "" && len(s.Spec.Ports) > 1:
			errs = append(errs, field.Required(at.Child("name"), ""))
		case p.Name != "":
			errs = append(errs, validateDNSLabel(p.Name, at.Child("name"))...)
			if names[p.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), p.Name))
			}
			names[p.Name] = true
		}
		errs = append(errs, invalidEach(at.Child("port"), p.Port, validation.IsValidPortNum(int(p.Port)))...)
		errs = append(errs, validateProtocol(p.Protocol, at.Child("protocol"))...)
		errs = append(errs, validatePortNumberOrName(p.TargetPort, at.Child("targetPort"))...)
		if p.AppProtocol != nil {
			errs = append(errs, validateQualifiedName(*p.AppProtocol, at.Child("appProtocol"))...)
		}
		k := key{p.Protocol, p.Port}
		if ports[k] {
			errs = append(errs, field.Duplicate(at, k))
		}
		ports[k] = true
		if p.NodePort == 0 {
			continue
		}
		if s.Spec.Type == corev1.ServiceTypeClusterIP {
			errs = append(errs, field.Forbidden(at.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		}
		n := key{p.Protocol, p.NodePort}
		if nodePorts[n] {
			errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
		}
		nodePorts[n] = true
	}
	return errs
}

func validateServiceAffinity(spec *corev1.ServiceSpec) field.ErrorList {
	at := specPath.Child("sessionAffinityConfig")
	errs := oneOf(spec.SessionAffinity, specPath.Child("sessionAffinity"), corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		if spec.SessionAffinityConfig != nil {
			errs = append(errs, field.Forbidden(at, "must not be set when session affinity is None"))
		}
	case corev1.ServiceAffinityClientIP:
		c := spec.SessionAffinityConfig
		switch {
		case c == nil:
			errs = append(errs, field.Required(at, "when session affinity type is ClientIP"))
		case c.ClientIP == nil:
			errs = append(errs, field.Required(at.Child("clientIP"), "when session affinity type is ClientIP"))
		case c.ClientIP.TimeoutSeconds == nil:
			errs = append(errs, field.Required(at.Child("clientIP", "timeoutSeconds"), "when session affinity type is ClientIP"))
		case *c.ClientIP.TimeoutSeconds <= 0 || *c.ClientIP.TimeoutSeconds > maxAffinitySeconds:
			errs = append(errs, field.Invalid(at.Child("clientIP", "timeoutSeconds"), *c.ClientIP.TimeoutSeconds, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
		}
	}
	return errs
}

// validateClusterIPs checks addresses and families of a service by themselves and
// against each other.
func validateClusterIPs(s *corev1.Service) field.ErrorList {
	spec := &s.Spec
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	errs := validateFamilies(spec)
	at := specPath.Child("clusterIPs")
	ips := spec.ClusterIPs
	if len(ips) == 0 {
		if spec.ClusterIP != "" && spec.ClusterIP != corev1.ClusterIPNone {
			errs = append(errs, validation.IsValidIPForLegacyField(specPath.Child("clusterIP"), spec.ClusterIP, strictIPs, nil)...)
		}
		return errs
	}
	if spec.ClusterIP != ips[0] {
		errs = append(errs, field.Invalid(at, ips, "first value must match `clusterIP`"))
	}
	if IsHeadless(s) {
		if len(ips) > 1 {
			errs = append(errs, field.Invalid(at, ips, "'None' must be the first and only value"))
		}
		return errs
	}
	var bad field.ErrorList
	for i, ip := range ips {
		if ip == corev1.ClusterIPNone {
			bad = append(bad, field.Invalid(at.Index(i), ip, "'None' must be the first and only value"))
			continue
		}
		bad = append(bad, validation.IsValidIPForLegacyField(at.Index(i), ip, strictIPs, nil)...)
	}
	if len(ips) > 2 {
		bad = append(bad, field.Invalid(at, ips, "may only hold up to 2 values"))
	}
	if len(bad) > 0 {
		return append(errs, bad...)
	}
	if len(ips) == 2 && familyOf(ips[0]) == familyOf(ips[1]) {
		errs = append(errs, field.Invalid(at, ips, "may specify no more than one IP for each IP family"))
	}
	for i, ip := range ips {
		if i < len(spec.IPFamilies) && familyOf(ip) != spec.IPFamilies[i] {
			errs = append(errs, field.Invalid(at.Index(i), ip, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", spec.IPFamilies[i], i)))
		}
	}
	return errs
}

func familyOf(ip string) corev1.IPFamily {
	if a, err := netip.ParseAddr(ip); err == nil && a.Is6() {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func validateFamilies(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	for i, f := range spec.IPFamilies {
		at := specPath.Child("ipFamilies").Index(i)
		if f != corev1.IPv4Protocol && f != corev1.IPv6Protocol {
			errs = append(errs, field.NotSupported(at, f, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}))
		}
		if slices.Contains(spec.IPFamilies[:i], f) {
			errs = append(errs, field.Duplicate(at, f))
		}
	}
	return append(errs, oneOfPointer(spec.IPFamilyPolicy, specPath.Child("ipFamilyPolicy"),
		corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)...)
}

// validateLoadBalancerFields checks what only load balancers have.
func validateLoadBalancerFields(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	balanced := spec.Type == corev1.ServiceTypeLoadBalancer
	const onlyBalanced = "may only be used when `type` is 'LoadBalancer'"
	if len(spec.LoadBalancerSourceRanges) > 0 {
		at := specPath.Child("LoadBalancerSourceRanges")
		if !balanced {
			errs = append(errs, field.Forbidden(at, onlyBalanced))
		}
		for i, r := range spec.LoadBalancerSourceRanges {
			errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), strings.TrimSpace(r), strictIPs, nil)...)
		}
	}
	if a := spec.AllocateLoadBalancerNodePorts; a != nil && !balanced {
		errs = append(errs, field.Forbidden(specPath.Child("allocateLoadBalancerNodePorts"), onlyBalanced))
	} else if a == nil && balanced {
		errs = append(errs, field.Required(specPath.Child("allocateLoadBalancerNodePorts"), "must be true or false when `type` is 'LoadBalancer'"))
	}
	if c := spec.LoadBalancerClass; c != nil {
		at := specPath.Child("loadBalancerClass")
		if !balanced {
			errs = append(errs, field.Forbidden(at, onlyBalanced))
		}
		errs = append(errs, validateQualifiedName(*c, at)...)
	}
	return errs
}

func validateTrafficPolicies(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	spec := &s.Spec
	at := specPath.Child("externalTrafficPolicy")
	if ExternallyAccessible(s) {
		errs = append(errs, oneOf(spec.ExternalTrafficPolicy, at, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	} else if spec.ExternalTrafficPolicy != "" {
		errs = append(errs, field.Invalid(at, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	at = specPath.Child("healthCheckNodePort")
	checked := spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	switch {
	case !checked && spec.HealthCheckNodePort != 0:
		errs = append(errs, field.Invalid(at, spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	case checked && spec.HealthCheckNodePort == 0:
		errs = append(errs, field.Required(at, ""))
	case checked:
		errs = append(errs, invalidEach(at, spec.HealthCheckNodePort, validation.IsValidPortNum(int(spec.HealthCheckNodePort)))...)
	}
	at = specPath.Child("internalTrafficPolicy")
	switch spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if spec.InternalTrafficPolicy == nil {
			errs = append(errs, field.Required(at, ""))
		}
	}
	errs = append(errs, oneOfPointer(spec.InternalTrafficPolicy, at, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	return append(errs, oneOfPointer(spec.TrafficDistribution, specPath.Child("trafficDistribution"),
		corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode)...)
}
