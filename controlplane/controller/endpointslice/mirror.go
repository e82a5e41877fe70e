package endpointslice

import (
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	utilnet "k8s.io/utils/net"
	"k8s.io/utils/ptr"
)

// MirroredBy is the value of endpointslice.kubernetes.io/managed-by on slices that mirror Endpoints.
const MirroredBy = "endpointslicemirroring-controller.k8s.io"

// PlanMirror makes the slices of a service without selector like its Endpoints; nil Endpoints, those that ask not
// to be mirrored and those that are somebody's lock have none.
func PlanMirror(s *corev1.Service, e *corev1.Endpoints, has []*discoveryv1.EndpointSlice) Plan {
	if e == nil || e.DeletionTimestamp != nil || strings.EqualFold(e.Labels[discoveryv1.LabelSkipMirror], "true") ||
		e.Labels[endpointsManagedBy] == endpointsController || s.Spec.Type == corev1.ServiceTypeExternalName {
		return Plan{Delete: has}
	}
	if _, lock := e.Annotations[leaderElectionEndpoints]; lock {
		return Plan{Delete: has}
	}
	f := frame{
		namespace: e.Namespace, prefix: e.Name, labels: map[string]string{}, owner: e, kind: corev1.SchemeGroupVersion.WithKind("Endpoints"),
	}
	maps.Copy(f.labels, e.Labels)
	f.labels[discoveryv1.LabelServiceName] = s.Name
	f.labels[discoveryv1.LabelManagedBy] = MirroredBy
	if at, err := time.Parse(time.RFC3339Nano, e.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		f.trigger = at
	}
	return f.arrange(mirrored(e), has, nil)
}

// mirrored groups the addresses by family and ports, a thousand of each subset at most.
func mirrored(e *corev1.Endpoints) map[groupKey]*group {
	groups := map[groupKey]*group{}
	for i := range e.Subsets {
		subset := &e.Subsets[i]
		var ports []discoveryv1.EndpointPort
		for _, p := range subset.Ports {
			ports = append(ports, discoveryv1.EndpointPort{
				Name: ptr.To(p.Name), Port: ptr.To(p.Port), Protocol: ptr.To(p.Protocol), AppProtocol: p.AppProtocol,
			})
		}
		room := maxEndpointsAddresses
		for _, list := range []struct {
			addresses []corev1.EndpointAddress
			ready     bool
		}{{subset.Addresses, true}, {subset.NotReadyAddresses, false}} {
			for _, a := range list.addresses[:min(room, len(list.addresses))] {
				room--
				family := corev1.IPv4Protocol
				if utilnet.IsIPv6String(a.IP) {
					family = corev1.IPv6Protocol
				}
				k := groupKey{discoveryv1.AddressType(family), portsKey(ports)}
				if groups[k] == nil {
					groups[k] = &group{family: family, ports: ports, endpoints: map[string]discoveryv1.Endpoint{}}
				}
				end := discoveryv1.Endpoint{
					Addresses: []string{a.IP}, NodeName: a.NodeName, TargetRef: a.TargetRef,
					Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(list.ready), Serving: ptr.To(list.ready), Terminating: ptr.To(false)},
				}
				if a.Hostname != "" {
					end.Hostname = ptr.To(a.Hostname)
				}
				groups[k].endpoints[identity(end)] = end
			}
		}
	}
	return groups
}
