// Package networking holds the defaults and validation of Ingresses, IngressClasses, NetworkPolicies and ServiceCIDRs.
package networking

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/fill"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, defaultNetworkPolicy)
	fill.List(s, func(l *networkingv1.NetworkPolicyList) []networkingv1.NetworkPolicy { return l.Items }, defaultNetworkPolicy)
	fill.Kind(s, defaultIngressClass)
	fill.List(s, func(l *networkingv1.IngressClassList) []networkingv1.IngressClass { return l.Items }, defaultIngressClass)
	return nil
}

func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	for i := range p.Spec.Ingress {
		defaultPorts(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		defaultPorts(p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) > 0 {
		return
	}
	// A policy written before there was egress must not begin to shut it.
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(p.Spec.Egress) > 0 {
		p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	}
}

func defaultPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		fill.Pointer(&ports[i].Protocol, corev1.ProtocolTCP)
	}
}

func defaultIngressClass(c *networkingv1.IngressClass) {
	if c.Spec.Parameters != nil {
		fill.Pointer(&c.Spec.Parameters.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
	}
}
