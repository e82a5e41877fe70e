package discovery

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

func ptr[T any](v T) *T { return &v }

func slice(kind discoveryv1.AddressType, endpoints []discoveryv1.Endpoint, ports ...discoveryv1.EndpointPort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", ResourceVersion: "1"}, AddressType: kind, Endpoints: endpoints, Ports: ports}
	defaultEndpointSlice(s)
	return s
}

func addresses(list ...string) []discoveryv1.Endpoint {
	return []discoveryv1.Endpoint{{Addresses: list}}
}

func TestEndpointSlice(t *testing.T) {
	many := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("10.0.%d.%d", i/256, i%256)
		}
		return list
	}
	for _, tc := range []struct {
		name string
		s    *discoveryv1.EndpointSlice
		want []string
	}{
		{"sound", slice("IPv4", addresses("10.0.0.1"), discoveryv1.EndpointPort{Port: ptr(int32(80))}), nil},
		{"ipv6", slice("IPv6", addresses("fd00::1")), nil},
		{"fqdn", slice("FQDN", addresses("host.example.com")), nil},
		{"type", slice("IPX", addresses("a")), []string{"NotSupported addressType"}},
		{"no type", slice("", addresses("a")), []string{"Required addressType"}},
		{"no address", slice("IPv4", addresses()), []string{"Required endpoints[0].addresses"}},
		{"100 addresses", slice("IPv4", addresses(many(100)...)), nil},
		{"101 addresses", slice("IPv4", addresses(many(101)...)), []string{"TooMany endpoints[0].addresses"}},
		{"other family", slice("IPv4", addresses("fd00::1")), []string{"Invalid endpoints[0].addresses[0]"}},
		{"special addresses", slice("IPv4", addresses("127.0.0.1", "0.0.0.0", "169.254.0.1", "x")), []string{"Invalid endpoints[0].addresses[0]", "Invalid endpoints[0].addresses[1]", "Invalid endpoints[0].addresses[2]", "Invalid endpoints[0].addresses[3]"}},
		{"bad name", slice("FQDN", addresses("a_b.c")), []string{"Invalid endpoints[0].addresses[0]"}},
		{"1000 endpoints", slice("IPv4", repeat(1000)), nil},
		{"1001 endpoints", slice("IPv4", repeat(1001)), []string{"TooMany endpoints"}},
		{"fields of an endpoint", slice("IPv4", []discoveryv1.Endpoint{{
			Addresses: []string{"10.0.0.1"}, Hostname: ptr("a.b"), NodeName: ptr("A"), DeprecatedTopology: map[string]string{"a b": "c", corev1.LabelHostname: "n"},
			Hints: &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "z"}, {Name: "z"}, {}}, ForNodes: []discoveryv1.ForNode{{Name: "A"}}},
		}}), []string{
			"Invalid endpoints[0].hostname", "Invalid endpoints[0].nodeName", "Invalid endpoints[0].deprecatedTopology", "Invalid endpoints[0].deprecatedTopology[kubernetes.io/hostname]",
			"Duplicate endpoints[0].hints.forZones[1].name", "Required endpoints[0].hints.forZones[2].name", "Invalid endpoints[0].hints.forNodes[0].name",
		}},
		{"ports", slice("IPv4", nil,
			discoveryv1.EndpointPort{Name: ptr("a")}, discoveryv1.EndpointPort{Name: ptr("a")}, discoveryv1.EndpointPort{Name: ptr("A_b"), Protocol: ptr(corev1.Protocol("X")), AppProtocol: ptr("a b")},
		), []string{"Duplicate ports[1].name", "Invalid ports[2].name", "NotSupported ports[2].protocol", "Invalid ports[2].appProtocol"}},
		{"two ports without names", slice("IPv4", nil, discoveryv1.EndpointPort{}, discoveryv1.EndpointPort{}), []string{"Duplicate ports[1].name"}},
	} {
		t.Run(tc.name, func(t *testing.T) { expect.Errors(t, ValidateEndpointSlice(tc.s), tc.want...) })
	}
	expect.Errors(t, ValidateEndpointSliceUpdate(slice("IPv6", nil), slice("IPv4", nil)), "Invalid addressType")
	expect.Errors(t, ValidateEndpointSliceUpdate(slice("IPv4", addresses("10.0.0.2")), slice("IPv4", nil)))
}

func repeat(n int) []discoveryv1.Endpoint {
	list := make([]discoveryv1.Endpoint, n)
	for i := range list {
		list[i].Addresses = []string{"10.0.0.1"}
	}
	return list
}
