package endpointslice

import (
	"cmp"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilnet "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"coracle/controlplane/controller/podview"
)

// group is the endpoints of one address type that have the same ports: what one set of slices holds.
type group struct {
	family    corev1.IPFamily
	ports     []discoveryv1.EndpointPort
	endpoints map[string]discoveryv1.Endpoint // by identity
}

// desired computes what the slices of a service must hold, by portsKey within an address type.
func desired(in Input) map[groupKey]*group {
	groups := map[groupKey]*group{}
	for _, family := range families(in.Service) {
		for _, pod := range in.Pods {
			ip := address(pod, family)
			if podview.Finished(pod) || ip == "" {
				continue
			}
			ports := resolvePorts(in.Service, pod)
			if len(ports) == 0 && (len(in.Service.Spec.Ports) != 0 || !headless(in.Service)) {
				continue // it serves none of the ports
			}
			k := groupKey{discoveryv1.AddressType(family), portsKey(ports)}
			g := groups[k]
			if g == nil {
				g = &group{family: family, ports: ports, endpoints: map[string]discoveryv1.Endpoint{}}
				groups[k] = g
			}
			e := endpoint(in, pod, ip)
			g.endpoints[identity(e)] = e
		}
	}
	return groups
}

type groupKey struct {
	kind  discoveryv1.AddressType
	ports string
}

// families are the service's address families, primary first.
func families(s *corev1.Service) []corev1.IPFamily {
	if len(s.Spec.IPFamilies) > 0 {
		return s.Spec.IPFamilies
	}
	if utilnet.IsIPv6String(s.Spec.ClusterIP) {
		return []corev1.IPFamily{corev1.IPv6Protocol}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

func headless(s *corev1.Service) bool { return s.Spec.ClusterIP == corev1.ClusterIPNone }

// address is the pod's address of that family; empty if it has none.
func address(pod *corev1.Pod, family corev1.IPFamily) string {
	for _, ip := range pod.Status.PodIPs {
		if utilnet.IsIPv6String(ip.IP) == (family == corev1.IPv6Protocol) {
			return ip.IP
		}
	}
	if ip := pod.Status.PodIP; ip != "" && len(pod.Status.PodIPs) == 0 && utilnet.IsIPv6String(ip) == (family == corev1.IPv6Protocol) {
		return ip
	}
	return ""
}

// resolvePorts are the service's ports as this pod serves them; a named target port that the pod
// has not is left out.
func resolvePorts(s *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for i := range s.Spec.Ports {
		sp := &s.Spec.Ports[i]
		protocol := cmp.Or(sp.Protocol, corev1.ProtocolTCP)
		port, ok := targetPort(sp, protocol, pod)
		if !ok {
			continue
		}
		out = append(out, discoveryv1.EndpointPort{
			Name: ptr.To(sp.Name), Protocol: &protocol, Port: &port, AppProtocol: sp.AppProtocol,
		})
	}
	return out
}

func targetPort(sp *corev1.ServicePort, protocol corev1.Protocol, pod *corev1.Pod) (int32, bool) {
	if sp.TargetPort.Type != intstr.String {
		if n := int32(sp.TargetPort.IntValue()); n > 0 {
			return n, true
		}
		return sp.Port, sp.Port > 0
	}
	find := func(list []corev1.Container, sidecarsOnly bool) (int32, bool) {
		for i := range list {
			if sidecarsOnly && ptr.Deref(list[i].RestartPolicy, "") != corev1.ContainerRestartPolicyAlways {
				continue
			}
			for _, p := range list[i].Ports {
				if p.Name == sp.TargetPort.StrVal && cmp.Or(p.Protocol, corev1.ProtocolTCP) == protocol {
					return p.ContainerPort, true
				}
			}
		}
		return 0, false
	}
	if n, ok := find(pod.Spec.Containers, false); ok {
		return n, true
	}
	return find(pod.Spec.InitContainers, true)
}

// portsKey is equal for equal sets of ports in any order.
func portsKey(ports []discoveryv1.EndpointPort) string {
	sorted := slices.SortedFunc(slices.Values(ports), func(a, b discoveryv1.EndpointPort) int {
		return cmp.Or(cmp.Compare(ptr.Deref(a.Name, ""), ptr.Deref(b.Name, "")),
			cmp.Compare(ptr.Deref(a.Port, 0), ptr.Deref(b.Port, 0)),
			cmp.Compare(ptr.Deref(a.Protocol, ""), ptr.Deref(b.Protocol, "")))
	})
	raw, err := json.Marshal(sorted)
	if err != nil || len(sorted) == 0 {
		return "" // plain values always encode
	}
	return string(raw)
}

func endpoint(in Input, pod *corev1.Pod, ip string) discoveryv1.Endpoint {
	serving := podview.Ready(pod)
	terminating := pod.DeletionTimestamp != nil
	ready := in.Service.Spec.PublishNotReadyAddresses || (serving && !terminating)
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		e.NodeName = ptr.To(pod.Spec.NodeName)
		if zone := in.Zones[pod.Spec.NodeName]; zone != "" {
			e.Zone = &zone
		}
	}
	if name := hostname(in.Service, pod); name != "" {
		e.Hostname = &name
	}
	return e
}

// hostname is the name that DNS gives a pod under a headless service of its subdomain.
func hostname(s *corev1.Service, pod *corev1.Pod) string {
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == s.Name && pod.Namespace == s.Namespace {
		return pod.Spec.Hostname
	}
	return ""
}

// identity tells endpoints apart: by what they point at and where it is.
func identity(e discoveryv1.Endpoint) string {
	id := ""
	if e.TargetRef != nil {
		id = string(e.TargetRef.UID) + "/" + e.TargetRef.Namespace + "/" + e.TargetRef.Name
	}
	for _, a := range e.Addresses {
		id += "|" + a
	}
	return id
}
