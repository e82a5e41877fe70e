package networking

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateNetworkPolicy judges a policy about to be created.
func ValidateNetworkPolicy(p *networkingv1.NetworkPolicy) field.ErrorList {
	return append(validateMeta(&p.ObjectMeta, true), validatePolicySpec(&p.Spec)...)
}

// ValidateNetworkPolicyUpdate judges an update.
func ValidateNetworkPolicyUpdate(p, old *networkingv1.NetworkPolicy) field.ErrorList {
	return append(validateMetaUpdate(&p.ObjectMeta, &old.ObjectMeta), validatePolicySpec(&p.Spec)...)
}

func validatePolicySpec(spec *networkingv1.NetworkPolicySpec) field.ErrorList {
	errs := validateSelector(&spec.PodSelector, specPath.Child("podSelector"))
	for i := range spec.Ingress {
		at := specPath.Child("ingress").Index(i)
		errs = append(errs, validatePolicyRule(spec.Ingress[i].Ports, spec.Ingress[i].From, at, at.Child("from"))...)
	}
	for i := range spec.Egress {
		at := specPath.Child("egress").Index(i)
		errs = append(errs, validatePolicyRule(spec.Egress[i].Ports, spec.Egress[i].To, at, at.Child("to"))...)
	}
	kinds := []networkingv1.PolicyType{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress}
	if len(spec.PolicyTypes) > len(kinds) {
		return append(errs, field.Invalid(specPath.Child("policyTypes"), spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, kind := range spec.PolicyTypes {
		if kind != kinds[0] && kind != kinds[1] {
			errs = append(errs, field.NotSupported(specPath.Child("policyTypes").Index(i), kind, kinds))
		}
	}
	return errs
}

func validateSelector(s *metav1.LabelSelector, at *field.Path) field.ErrorList {
	return metavalidation.ValidateLabelSelector(s, metavalidation.LabelSelectorValidationOptions{}, at)
}

func validatePolicyRule(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, at, peersAt *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range ports {
		errs = append(errs, validatePolicyPort(&ports[i], at.Child("ports").Index(i))...)
	}
	for i := range peers {
		errs = append(errs, validatePeer(&peers[i], peersAt.Index(i))...)
	}
	return errs
}

func validatePolicyPort(p *networkingv1.NetworkPolicyPort, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Protocol != nil {
		switch *p.Protocol {
		case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
		default:
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}))
		}
	}
	end := at.Child("endPort")
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
		}
	case p.Port.Type == intstr.Int:
		errs = append(errs, invalidEach(at.Child("port"), p.Port.IntVal, validation.IsValidPortNum(int(p.Port.IntVal)))...)
		if p.EndPort != nil {
			if *p.EndPort < p.Port.IntVal {
				errs = append(errs, field.Invalid(end, *p.EndPort, "must be greater than or equal to `port`"))
			}
			errs = append(errs, invalidEach(end, *p.EndPort, validation.IsValidPortNum(int(*p.EndPort)))...)
		}
	default:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
		}
		errs = append(errs, invalidEach(at.Child("port"), p.Port.StrVal, validation.IsValidPortName(p.Port.StrVal))...)
	}
	return errs
}

func validatePeer(p *networkingv1.NetworkPolicyPeer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	peers := 0
	for _, s := range []struct {
		name     string
		selector *metav1.LabelSelector
	}{{"podSelector", p.PodSelector}, {"namespaceSelector", p.NamespaceSelector}} {
		if s.selector != nil {
			peers++
			errs = append(errs, validateSelector(s.selector, at.Child(s.name))...)
		}
	}
	if p.IPBlock != nil {
		errs = append(errs, validateBlock(p.IPBlock, at.Child("ipBlock"))...)
		if peers > 0 {
			errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
		}
	} else if peers == 0 {
		errs = append(errs, field.Required(at, "must specify a peer"))
	}
	return errs
}

func validateBlock(b *networkingv1.IPBlock, at *field.Path) field.ErrorList {
	if b.CIDR == "" {
		return field.ErrorList{field.Required(at.Child("cidr"), "")}
	}
	if errs := validation.IsValidCIDR(at.Child("cidr"), b.CIDR); len(errs) > 0 {
		return errs
	}
	whole, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return field.ErrorList{field.Invalid(at.Child("cidr"), b.CIDR, err.Error())}
	}
	var errs field.ErrorList
	for i, text := range b.Except {
		here := at.Child("except").Index(i)
		if bad := validation.IsValidCIDR(here, text); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		part, err := netip.ParsePrefix(text)
		if err != nil || !whole.Masked().Contains(part.Addr()) || part.Bits() <= whole.Bits() {
			errs = append(errs, field.Invalid(here, text, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}
