package networking

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"coracle/controlplane/api/expect"
)

var meta = metav1.ObjectMeta{Name: "x", Namespace: "ns", ResourceVersion: "1"}

func service(name string, port networkingv1.ServiceBackendPort) networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: name, Port: port}}
}

func ingress(change ...func(*networkingv1.Ingress)) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: meta, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
		Host: "a.example.com", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
			Path: "/", PathType: ptr.To(networkingv1.PathTypePrefix), Backend: service("web", networkingv1.ServiceBackendPort{Number: 80}),
		}}}},
	}}}}
	for _, c := range change {
		c(i)
	}
	return i
}

func TestIngress(t *testing.T) {
	path := func(change func(*networkingv1.HTTPIngressPath)) *networkingv1.Ingress {
		return ingress(func(i *networkingv1.Ingress) { change(&i.Spec.Rules[0].HTTP.Paths[0]) })
	}
	backend := func(b networkingv1.IngressBackend) *networkingv1.Ingress {
		return path(func(p *networkingv1.HTTPIngressPath) { p.Backend = b })
	}
	resource := &corev1.TypedLocalObjectReference{APIGroup: ptr.To("example.com"), Kind: "Bucket", Name: "b"}
	both := service("web", networkingv1.ServiceBackendPort{Number: 80})
	both.Resource = resource
	const rule, at = "spec.rules[0]", "spec.rules[0].http.paths[0]"
	for name, tc := range map[string]struct {
		i    *networkingv1.Ingress
		want []string
	}{
		"sound": {ingress(), nil},
		"empty": {ingress(func(i *networkingv1.Ingress) { i.Spec = networkingv1.IngressSpec{} }), []string{"Invalid spec"}},
		"default": {ingress(func(i *networkingv1.Ingress) {
			i.Spec = networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{}}
		}), []string{"Invalid spec.defaultBackend"}},
		"wildcard": {ingress(func(i *networkingv1.Ingress) { i.Spec.Rules[0].Host = "*.example.com" }), nil},
		"host":     {ingress(func(i *networkingv1.Ingress) { i.Spec.Rules[0].Host = "a.*.com" }), []string{"Invalid " + rule + ".host"}},
		"address":  {ingress(func(i *networkingv1.Ingress) { i.Spec.Rules[0].Host = "192.0.2.1" }), []string{"Invalid " + rule + ".host"}},
		"no paths": {ingress(func(i *networkingv1.Ingress) { i.Spec.Rules[0].HTTP.Paths = nil }), []string{"Required " + rule + ".http.paths"}},
		"no type":  {path(func(p *networkingv1.HTTPIngressPath) { p.PathType = nil }), []string{"Required " + at + ".pathType"}},
		"odd type": {path(func(p *networkingv1.HTTPIngressPath) { p.PathType = ptr.To(networkingv1.PathType("x")) }), []string{"NotSupported " + at + ".pathType"}},
		"relative": {path(func(p *networkingv1.HTTPIngressPath) { p.Path = "x" }), []string{"Invalid " + at + ".path"}},
		"crooked":  {path(func(p *networkingv1.HTTPIngressPath) { p.Path = "/a//b/../c/." }), []string{"Invalid " + at + ".path", "Invalid " + at + ".path", "Invalid " + at + ".path"}},
		"own": {path(func(p *networkingv1.HTTPIngressPath) {
			p.Path, p.PathType = "", ptr.To(networkingv1.PathTypeImplementationSpecific)
		}), nil},
		"resource":  {backend(networkingv1.IngressBackend{Resource: resource}), nil},
		"reference": {backend(networkingv1.IngressBackend{Resource: &corev1.TypedLocalObjectReference{Name: "a/b"}}), []string{"Required " + at + ".backend.resource.kind", "Invalid " + at + ".backend.resource.name"}},
		"both":      {backend(both), []string{"Invalid " + at + ".backend"}},
		"two ports": {backend(service("web", networkingv1.ServiceBackendPort{Name: "a", Number: 1})), []string{"Invalid " + at + ".backend"}},
		"no port":   {backend(service("", networkingv1.ServiceBackendPort{})), []string{"Required " + at + ".backend.service.name", "Required " + at + ".backend"}},
		"bad port":  {backend(service("A", networkingv1.ServiceBackendPort{Number: 70000})), []string{"Invalid " + at + ".backend.service.name", "Invalid " + at + ".backend.service.port.number"}},
		"bad name":  {backend(service("a", networkingv1.ServiceBackendPort{Name: "a_1"})), []string{"Invalid " + at + ".backend.service.port.name"}},
		"tls": {ingress(func(i *networkingv1.Ingress) {
			i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"a.example.com", "B"}, SecretName: "C"}}
		}), []string{"Invalid spec.tls[0].hosts[1]", "Invalid spec.tls[0].secretName"}},
		"class": {ingress(func(i *networkingv1.Ingress) { i.Spec.IngressClassName = ptr.To("A") }), []string{"Invalid spec.ingressClassName"}},
		"two classes": {ingress(func(i *networkingv1.Ingress) {
			i.Spec.IngressClassName, i.Annotations = ptr.To("a"), map[string]string{ClassAnnotation: "b"}
		}), []string{"Invalid annotations." + ClassAnnotation}},
	} {
		t.Run(name, func(t *testing.T) { expect.Errors(t, ValidateIngress(tc.i), tc.want...) })
	}
	expect.Errors(t, ValidateIngressUpdate(ingress(func(i *networkingv1.Ingress) { i.Spec.Rules = nil }), ingress()), "Invalid spec")
	expect.Errors(t, ValidateIngressStatusUpdate(ingress(func(i *networkingv1.Ingress) {
		i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}, {Hostname: "lb.example.com"}, {IP: "x"}, {Hostname: "192.0.2.1"}}
	}), ingress()), "Invalid status.loadBalancer.ingress[2].ip", "Invalid status.loadBalancer.ingress[3].hostname")
}

func TestIngressClass(t *testing.T) {
	class := func(change func(*networkingv1.IngressClass)) *networkingv1.IngressClass {
		c := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "x", ResourceVersion: "1"}, Spec: networkingv1.IngressClassSpec{
			Controller: "example.com/controller", Parameters: &networkingv1.IngressClassParametersReference{Kind: "Config", Name: "c"},
		}}
		defaultIngressClass(c)
		change(c)
		return c
	}
	sound := class(func(*networkingv1.IngressClass) {})
	for name, tc := range map[string]struct {
		change func(*networkingv1.IngressClass)
		want   []string
	}{
		"sound":      {func(*networkingv1.IngressClass) {}, nil},
		"none":       {func(c *networkingv1.IngressClass) { c.Spec = networkingv1.IngressClassSpec{} }, []string{"Required spec.controller"}},
		"controller": {func(c *networkingv1.IngressClass) { c.Spec.Controller = "x" }, []string{"Invalid spec.controller"}},
		"long":       {func(c *networkingv1.IngressClass) { c.Spec.Controller = "a.b/" + strings.Repeat("x", 250) }, []string{"TooLong spec.controller"}},
		"scope":      {func(c *networkingv1.IngressClass) { c.Spec.Parameters.Scope = nil }, []string{"Required spec.parameters.scope"}},
		"odd scope":  {func(c *networkingv1.IngressClass) { c.Spec.Parameters.Scope = ptr.To("x") }, []string{"NotSupported spec.parameters.scope"}},
		"namespace":  {func(c *networkingv1.IngressClass) { c.Spec.Parameters.Scope = ptr.To("Namespace") }, []string{"Required spec.parameters.namespace"}},
		"too much":   {func(c *networkingv1.IngressClass) { c.Spec.Parameters.Namespace = ptr.To("a") }, []string{"Forbidden spec.parameters.namespace"}},
	} {
		t.Run(name, func(t *testing.T) { expect.Errors(t, ValidateIngressClass(class(tc.change)), tc.want...) })
	}
	expect.Errors(t, ValidateIngressClassUpdate(class(func(c *networkingv1.IngressClass) { c.Spec.Controller = "example.com/other" }), sound), "Invalid spec.controller")
}

func TestNetworkPolicy(t *testing.T) {
	policy := func(ports []networkingv1.NetworkPolicyPort, peers ...networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
		p := &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: peers}}, Egress: []networkingv1.NetworkPolicyEgressRule{{Ports: ports}},
		}}
		defaultNetworkPolicy(p)
		return p
	}
	port := func(p intstr.IntOrString, end *int32) []networkingv1.NetworkPolicyPort {
		return []networkingv1.NetworkPolicyPort{{Port: &p, EndPort: end}}
	}
	block := func(cidr string, except ...string) networkingv1.NetworkPolicyPeer {
		return networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr, Except: except}}
	}
	mixed := block("10.0.0.0/8")
	mixed.PodSelector = &metav1.LabelSelector{}
	const ports, from = "spec.egress[0].ports[0]", "spec.ingress[0].from[0]"
	for name, tc := range map[string]struct {
		p    *networkingv1.NetworkPolicy
		want []string
	}{
		"sound":        {policy(port(intstr.FromInt32(80), ptr.To(int32(90))), block("10.0.0.0/8", "10.1.0.0/16")), nil},
		"named":        {policy(port(intstr.FromString("http"), nil), networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: &metav1.LabelSelector{}}), nil},
		"protocol":     {policy([]networkingv1.NetworkPolicyPort{{Protocol: ptr.To(corev1.Protocol("x"))}}), []string{"NotSupported " + ports + ".protocol"}},
		"port":         {policy(port(intstr.FromInt32(0), nil)), []string{"Invalid " + ports + ".port"}},
		"name":         {policy(port(intstr.FromString("a_1"), ptr.To(int32(1)))), []string{"Invalid " + ports + ".port", "Invalid " + ports + ".endPort"}},
		"end first":    {policy(port(intstr.FromInt32(80), ptr.To(int32(70)))), []string{"Invalid " + ports + ".endPort"}},
		"end alone":    {policy([]networkingv1.NetworkPolicyPort{{EndPort: ptr.To(int32(70))}}), []string{"Invalid " + ports + ".endPort"}},
		"no peer":      {policy(nil, networkingv1.NetworkPolicyPeer{}), []string{"Required " + from}},
		"two peers":    {policy(nil, mixed), []string{"Forbidden " + from}},
		"no block":     {policy(nil, block("")), []string{"Required " + from + ".ipBlock.cidr"}},
		"bad block":    {policy(nil, block("10.0.0.0")), []string{"Invalid " + from + ".ipBlock.cidr"}},
		"outside":      {policy(nil, block("10.0.0.0/8", "192.0.2.0/24", "10.0.0.0/8", "x")), []string{"Invalid " + from + ".ipBlock.except[0]", "Invalid " + from + ".ipBlock.except[1]", "Invalid " + from + ".ipBlock.except[2]"}},
		"other family": {policy(nil, block("10.0.0.0/8", "2001:db8::/32")), []string{"Invalid " + from + ".ipBlock.except[0]"}},
	} {
		t.Run(name, func(t *testing.T) { expect.Errors(t, ValidateNetworkPolicy(tc.p), tc.want...) })
	}
	odd := policy(nil)
	odd.Spec.PolicyTypes = []networkingv1.PolicyType{"x"}
	expect.Errors(t, ValidateNetworkPolicyUpdate(odd, policy(nil)), "NotSupported spec.policyTypes[0]")
	odd.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress", "Egress", "Ingress"}
	expect.Errors(t, ValidateNetworkPolicy(odd), "Invalid spec.policyTypes")
}

func TestServiceCIDR(t *testing.T) {
	cidr := func(list ...string) *networkingv1.ServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "x", ResourceVersion: "1"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: list}}
	}
	const v4, v6 = "10.1.0.0/16", "2001:db8::/112"
	expect.Errors(t, ValidateServiceCIDR(cidr(v4)))
	expect.Errors(t, ValidateServiceCIDR(cidr(v6, v4)))
	expect.Errors(t, ValidateServiceCIDR(cidr()), "Required spec.cidrs")
	expect.Errors(t, ValidateServiceCIDR(cidr(v4, v6, v4)), "Invalid spec.cidrs")
	expect.Errors(t, ValidateServiceCIDR(cidr(v4, "10.2.0.0/16")), "Invalid spec.cidrs")
	expect.Errors(t, ValidateServiceCIDR(cidr("x")), "Invalid spec.cidrs[0]")
	expect.Errors(t, ValidateServiceCIDRUpdate(cidr(v4, v6), cidr(v4)))
	expect.Errors(t, ValidateServiceCIDRUpdate(cidr(v6, v4), cidr(v4)), "Invalid spec.cidrs")
	expect.Errors(t, ValidateServiceCIDRUpdate(cidr(v4), cidr(v4, v6)), "Invalid spec.cidrs")
	expect.Errors(t, ValidateServiceCIDRStatusUpdate(cidr(v4), cidr(v4)))
}
