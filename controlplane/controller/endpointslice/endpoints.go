package endpointslice

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	// endpointsManagedBy labels the Endpoints that this controller writes.
	endpointsManagedBy      = "endpoints.kubernetes.io/managed-by"
	endpointsController     = "endpoint-controller"
	maxEndpointsAddresses   = 1000
	overCapacityTruncated   = "truncated"
	leaderElectionEndpoints = "control-plane.alpha.kubernetes.io/leader"
)

// PlanEndpoints is the Endpoints object that the service should have: new where has is nil, changed where
// the result is not nil, right where it is nil.
//
// Differs from the slices as the older API does: one address family, no terminating pods unless the
// service publishes those that are not ready, and a thousand addresses at most.
func PlanEndpoints(in Input, has *corev1.Endpoints) *corev1.Endpoints {
	s := in.Service
	primary := *s.DeepCopy()
	primary.Spec.IPFamilies = families(s)[:1]
	narrowed := in
	narrowed.Service = &primary
	narrowed.Pods = slices.DeleteFunc(slices.Clone(in.Pods), func(p *corev1.Pod) bool {
		return p.DeletionTimestamp != nil && !s.Spec.PublishNotReadyAddresses
	})
	subsets, truncated := subsetsOf(desired(narrowed))
	next := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace},
		Subsets:    subsets,
	}
	if has != nil {
		next.ObjectMeta = *has.ObjectMeta.DeepCopy()
	}
	labels := labelsFor(s)
	delete(labels, discoveryv1.LabelServiceName)
	delete(labels, discoveryv1.LabelManagedBy)
	labels[endpointsManagedBy] = endpointsController
	next.Labels = labels
	next.Annotations = maps.Clone(next.Annotations)
	if truncated {
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[corev1.EndpointsOverCapacity] = overCapacityTruncated
	} else {
		delete(next.Annotations, corev1.EndpointsOverCapacity)
	}
	if has != nil && equality.Semantic.DeepEqual(has.Subsets, next.Subsets) && maps.Equal(has.Labels, labels) &&
		has.Annotations[corev1.EndpointsOverCapacity] == next.Annotations[corev1.EndpointsOverCapacity] {
		return nil
	}
	if at := triggerTime(in); !at.IsZero() {
		if next.Annotations == nil {
			next.Annotations = map[string]string{}
		}
		next.Annotations[corev1.EndpointsLastChangeTriggerTime] = at.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")
	}
	return next
}

// subsetsOf sorts the groups so that equal sets give equal objects.
func subsetsOf(groups map[groupKey]*group) (out []corev1.EndpointSubset, truncated bool) {
	room := maxEndpointsAddresses
	keys := slices.SortedFunc(maps.Keys(groups), compareKeys)
	for _, k := range keys {
		g := groups[k]
		var subset corev1.EndpointSubset
		for _, p := range g.ports {
			subset.Ports = append(subset.Ports, corev1.EndpointPort{
				Name: ptr.Deref(p.Name, ""), Port: ptr.Deref(p.Port, 0), Protocol: ptr.Deref(p.Protocol, corev1.ProtocolTCP), AppProtocol: p.AppProtocol,
			})
		}
		slices.SortFunc(subset.Ports, func(a, b corev1.EndpointPort) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
		})
		for _, id := range slices.Sorted(maps.Keys(g.endpoints)) {
			e := g.endpoints[id]
			a := corev1.EndpointAddress{IP: e.Addresses[0], NodeName: e.NodeName, TargetRef: e.TargetRef, Hostname: ptr.Deref(e.Hostname, "")}
			if ptr.Deref(e.Conditions.Ready, false) {
				subset.Addresses = append(subset.Addresses, a)
			} else {
				subset.NotReadyAddresses = append(subset.NotReadyAddresses, a)
			}
		}
		slices.SortFunc(subset.Addresses, byIP)
		slices.SortFunc(subset.NotReadyAddresses, byIP)
		out = append(out, subset)
	}
	// Those that are ready go first where not all fit.
	for _, pick := range []func(*corev1.EndpointSubset) *[]corev1.EndpointAddress{
		func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress { return &s.Addresses },
		func(s *corev1.EndpointSubset) *[]corev1.EndpointAddress { return &s.NotReadyAddresses },
	} {
		for i := range out {
			list := pick(&out[i])
			if len(*list) > room {
				*list, truncated = (*list)[:room], true
			}
			room -= len(*list)
		}
	}
	out = slices.DeleteFunc(out, func(s corev1.EndpointSubset) bool { return len(s.Addresses)+len(s.NotReadyAddresses) == 0 })
	return out, truncated
}

func byIP(a, b corev1.EndpointAddress) int {
	x, errX := netip.ParseAddr(a.IP)
	y, errY := netip.ParseAddr(b.IP)
	if errX != nil || errY != nil {
		return cmp.Compare(a.IP, b.IP)
	}
	return cmp.Or(bytes.Compare(x.AsSlice(), y.AsSlice()), cmp.Compare(a.Hostname, b.Hostname))
}
