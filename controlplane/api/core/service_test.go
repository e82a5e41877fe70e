package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/controlplane/api/expect"
)

// serviceWith makes a sound service as it is after its address was given.
func serviceWith(change func(s *corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "ns", ResourceVersion: "1"},
		Spec: corev1.ServiceSpec{
			Ports:     []corev1.ServicePort{{Port: 80}},
			ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5"},
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, IPFamilyPolicy: ptr(corev1.IPFamilyPolicySingleStack),
		},
	}
	if change != nil {
		change(s)
	}
	defaultService(s)
	return s
}

func TestService(t *testing.T) {
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		want []string
	}{
		{"sound", serviceWith(nil), nil},
		{"name", serviceWith(func(s *corev1.Service) { s.Name = "a.b" }), []string{"Invalid metadata.name"}},
		{"name with a digit first", serviceWith(func(s *corev1.Service) { s.Name = "1a" }), nil},
		{"no ports", serviceWith(func(s *corev1.Service) { s.Spec.Ports = nil }), []string{"Required spec.ports"}},
		{"headless without ports", serviceWith(func(s *corev1.Service) {
			s.Spec.Ports, s.Spec.ClusterIP, s.Spec.ClusterIPs = nil, "None", []string{"None"}
		}), nil},
		{"type", serviceWith(func(s *corev1.Service) { s.Spec.Type = "Magic" }), []string{"NotSupported spec.type"}},
		{"ports", serviceWith(func(s *corev1.Service) {
			s.Spec.Ports = []corev1.ServicePort{
				{Port: 0, Protocol: "TCP", TargetPort: intstr.FromInt32(80)},
				{Name: "a", Port: 80, Protocol: "ICMP", TargetPort: intstr.FromInt32(70000)},
				{Name: "a", Port: 81, AppProtocol: ptr("a b")},
				{Name: "d", Port: 81, NodePort: 30000},
			}
		}), []string{
			"Required spec.ports[0].name", "Invalid spec.ports[0].port", "NotSupported spec.ports[1].protocol", "Invalid spec.ports[1].targetPort",
			"Duplicate spec.ports[2].name", "Invalid spec.ports[2].appProtocol", "Duplicate spec.ports[3]", "Forbidden spec.ports[3].nodePort",
		}},
		{"node ports twice", serviceWith(func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeNodePort
			s.Spec.Ports = []corev1.ServicePort{{Name: "a", Port: 80, NodePort: 30000}, {Name: "b", Port: 81, NodePort: 30000}, {Name: "c", Port: 81, NodePort: 30000, Protocol: "UDP"}}
		}), []string{"Duplicate spec.ports[1].nodePort"}},
		{"headless node port", serviceWith(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ServiceTypeNodePort, "None", []string{"None"}
		}), []string{"Invalid spec.clusterIPs[0]"}},
		{"external name", serviceWith(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "a_b"
		}), []string{"Forbidden spec.clusterIPs", "Forbidden spec.ipFamilies", "Forbidden spec.ipFamilyPolicy", "Invalid spec.externalName"}},
		{"no external name", serviceWith(func(s *corev1.Service) { s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName} }), []string{"Required spec.externalName"}},
		{"selector", serviceWith(func(s *corev1.Service) { s.Spec.Selector = map[string]string{"a": "b c"} }), []string{"Invalid spec.selector"}},
		{"affinity", serviceWith(func(s *corev1.Service) { s.Spec.SessionAffinity = "Sticky" }), []string{"NotSupported spec.sessionAffinity"}},
		{"affinity time", serviceWith(func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(86401))}}
		}), []string{"Invalid spec.sessionAffinityConfig.clientIP.timeoutSeconds"}},
		{"address", serviceWith(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "x", []string{"x"} }), []string{"Invalid spec.clusterIPs[0]"}},
		{"addresses differ", serviceWith(func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.6" }), []string{"Invalid spec.clusterIPs"}},
		{"two of a family", serviceWith(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"10.96.0.5", "10.96.0.6"} }), []string{"Invalid spec.clusterIPs"}},
		{"family", serviceWith(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }), []string{"Invalid spec.clusterIPs[0]"}},
		{"families", serviceWith(func(s *corev1.Service) {
			s.Spec.IPFamilies = []corev1.IPFamily{"IPv5", "IPv4", "IPv4"}
			s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.IPFamilyPolicy = "", nil, ptr(corev1.IPFamilyPolicy("x"))
		}), []string{"NotSupported spec.ipFamilies[0]", "Duplicate spec.ipFamilies[2]", "NotSupported spec.ipFamilyPolicy"}},
		{"external addresses", serviceWith(func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"x", "127.0.0.1", "192.0.2.1"} }), []string{"Invalid spec.externalIPs[0]", "Invalid spec.externalIPs[1]"}},
		{"source ranges", serviceWith(func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/33"} }), []string{"Forbidden spec.LoadBalancerSourceRanges", "Invalid spec.LoadBalancerSourceRanges[0]"}},
		{"balancer fields of others", serviceWith(func(s *corev1.Service) {
			s.Spec.AllocateLoadBalancerNodePorts, s.Spec.LoadBalancerClass, s.Spec.HealthCheckNodePort = ptr(true), ptr("a b"), 30000
		}), []string{"Forbidden spec.allocateLoadBalancerNodePorts", "Forbidden spec.loadBalancerClass", "Invalid spec.loadBalancerClass", "Invalid spec.healthCheckNodePort"}},
		{"balancer on the kubelet port", serviceWith(func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].Port = corev1.ServiceTypeLoadBalancer, 10250 }), []string{"Invalid spec.ports[0]"}},
		{"local without health port", serviceWith(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
		}), []string{"Required spec.healthCheckNodePort"}},
		{"policies", serviceWith(func(s *corev1.Service) {
			s.Spec.ExternalTrafficPolicy, s.Spec.InternalTrafficPolicy, s.Spec.TrafficDistribution = "Local", ptr(corev1.ServiceInternalTrafficPolicy("x")), ptr("Far")
		}), []string{"Invalid spec.externalTrafficPolicy", "NotSupported spec.internalTrafficPolicy", "NotSupported spec.trafficDistribution"}},
	} {
		t.Run(tc.name, func(t *testing.T) { expect.Errors(t, ValidateService(tc.svc), tc.want...) })
	}
}

func TestServiceUpdate(t *testing.T) {
	for _, tc := range []struct {
		name           string
		before, change func(s *corev1.Service)
		want           []string
	}{
		{"port", nil, func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }, nil},
		{"address", nil, func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.96.0.6", []string{"10.96.0.6"} }, []string{"Invalid spec.clusterIPs[0]"}},
		{"address gone", nil, func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil }, []string{"Invalid spec.clusterIPs[0]"}},
		{"to headless", nil, func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }, []string{"Invalid spec.clusterIPs[0]"}},
		{"to node port", nil, func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalTrafficPolicy, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, corev1.ServiceExternalTrafficPolicyCluster, 30001
		}, nil},
		{"to external name", nil, func(s *corev1.Service) {
			s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com", SessionAffinity: "None"}
		}, nil},
		{"first family", nil, func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }, []string{"Invalid spec.ipFamilies[0]", "Invalid spec.clusterIPs[0]"}},
		{"second family", nil, func(s *corev1.Service) {
			s.Spec.ClusterIPs, s.Spec.IPFamilies = append(s.Spec.ClusterIPs, "fd00::5"), append(s.Spec.IPFamilies, corev1.IPv6Protocol)
			s.Spec.IPFamilyPolicy = ptr(corev1.IPFamilyPolicyPreferDualStack)
		}, nil},
		{"balancer class", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }, func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr("x.com/y") }, []string{"Invalid spec.loadBalancerClass"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old := serviceWith(tc.before)
			now := old.DeepCopy()
			tc.change(now)
			expect.Errors(t, ValidateServiceUpdate(now, old), tc.want...)
		})
	}
}

func TestServiceStatusUpdate(t *testing.T) {
	ingress := func(typ corev1.ServiceType, in corev1.LoadBalancerIngress) *corev1.Service {
		s := serviceWith(func(s *corev1.Service) { s.Spec.Type = typ })
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{in}
		return s
	}
	const at = "status.loadBalancer.ingress"
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		want []string
	}{
		{"sound", ingress("LoadBalancer", corev1.LoadBalancerIngress{IP: "192.0.2.1", IPMode: ptr(corev1.LoadBalancerIPModeVIP)}), nil},
		{"other type", ingress("ClusterIP", corev1.LoadBalancerIngress{IP: "192.0.2.1"}), []string{"Forbidden " + at}},
		{"address", ingress("LoadBalancer", corev1.LoadBalancerIngress{IP: "x"}), []string{"Invalid " + at + "[0].ip", "Required " + at + "[0].ipMode"}},
		{"mode alone", ingress("LoadBalancer", corev1.LoadBalancerIngress{IPMode: ptr(corev1.LoadBalancerIPMode("x"))}), []string{"Forbidden " + at + "[0].ipMode", "NotSupported " + at + "[0].ipMode"}},
		{"hostname", ingress("LoadBalancer", corev1.LoadBalancerIngress{Hostname: "192.0.2.1"}), []string{"Invalid " + at + "[0].hostname"}},
	} {
		t.Run(tc.name, func(t *testing.T) { expect.Errors(t, ValidateServiceStatusUpdate(tc.svc, tc.svc), tc.want...) })
	}
}

func TestEndpoints(t *testing.T) {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns"}, Subsets: []corev1.EndpointSubset{
		{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}, Ports: []corev1.EndpointPort{{Port: 80, Protocol: "TCP"}}},
		{},
		{
			Addresses:         []corev1.EndpointAddress{{IP: "127.0.0.1"}, {IP: "169.254.1.1"}, {IP: "x", Hostname: "a.b", NodeName: ptr("a b")}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "::"}},
			Ports:             []corev1.EndpointPort{{Port: 0, Protocol: "TCP"}, {Name: "A", Port: 80, AppProtocol: ptr("a b")}},
		},
	}}
	const at = "subsets[2]"
	expect.Errors(t, ValidateEndpoints(e), "Required subsets[1]",
		"Invalid "+at+".addresses[0].ip", "Invalid "+at+".addresses[1].ip", "Invalid "+at+".addresses[2].ip", "Invalid "+at+".addresses[2].hostname", "Invalid "+at+".addresses[2].nodeName",
		"Invalid "+at+".notReadyAddresses[0].ip", "Required "+at+".ports[0].name", "Invalid "+at+".ports[0].port",
		"Invalid "+at+".ports[1].name", "Required "+at+".ports[1].protocol", "Invalid "+at+".ports[1].appProtocol")
}
