// Package service serves services: it keeps their type-dependent fields consistent and gives them cluster IPs and node
// ports.
//
// Addresses are claimed by creating IPAddress objects, node ports by compare-and-swap on one bitmap in etcd, so any
// number of control planes may allocate at once. What a crash leaves claimed without a service, or a service without its
// claim, Repair mends.
//
// Files: prepare.go (PURE: fields that follow from the type), family.go (PURE: IP families), bitmap.go (PURE), claim.go (one
// create, update or delete as a transaction), addresses.go and ports.go (the claims in etcd), repair.go.
package service

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/core"
	"coracle/controlplane/registry/kind"
)

// Services describes services.
func Services() kind.Kind[*corev1.Service] {
	return kind.Kind[*corev1.Service]{
		Versions: []string{"v1"}, Resource: "services", Singular: "service", Short: []string{"svc"}, Categories: []string{"all"},
		New:     func() *corev1.Service { return &corev1.Service{} },
		NewList: func() runtime.Object { return &corev1.ServiceList{} },
		Fields: func(s *corev1.Service) fields.Set {
			return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
		},
		Main: kind.Strategy[*corev1.Service]{
			Create: func(_ context.Context, obj *corev1.Service) { obj.Status = corev1.ServiceStatus{} },
			Update: func(_ context.Context, obj, old *corev1.Service) {
				obj.Status = old.Status
				Reconcile(obj, old)
			},
			Validate: core.ValidateService, ValidateUpdate: core.ValidateServiceUpdate,
			CreateOnUpdate: true,
			Reset:          []string{"status"},
		},
		Status: &kind.Strategy[*corev1.Service]{
			Update:         func(_ context.Context, obj, old *corev1.Service) { obj.Spec = old.Spec },
			ValidateUpdate: core.ValidateServiceStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

func needsClusterIP(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		return true
	}
	return false
}

// mayHaveNodePorts is true for types whose ports can have node ports, asked for or not.
func mayHaveNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// wantsNodePorts is true when a port without a node port is to be given one.
func wantsNodePorts(s *corev1.Service) bool {
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return s.Spec.Type == corev1.ServiceTypeNodePort
}

func wantsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

func externallyAccessible(s *corev1.Service) bool {
	return mayHaveNodePorts(s) || (s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0)
}

// Reconcile makes an update's type-dependent fields follow from its type and from what the old object had. Doing it twice
// changes nothing.
func Reconcile(obj, old *corev1.Service) {
	KeepAllocated(obj, old)
	SyncClusterIPs(obj, old)
	DropForType(obj, old)
}

// KeepAllocated fills what an update leaves out and the server had given: clients that replace an object from their own
// manifest do not know it.
func KeepAllocated(obj, old *corev1.Service) {
	if needsClusterIP(old) && needsClusterIP(obj) {
		if obj.Spec.ClusterIP == "" {
			obj.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(obj.Spec.ClusterIPs) == 0 && obj.Spec.ClusterIP == old.Spec.ClusterIP {
			obj.Spec.ClusterIPs = old.Spec.ClusterIPs
		}
	}
	if mayHaveNodePorts(old) && mayHaveNodePorts(obj) {
		keepNodePorts(obj, old)
	}
	if wantsHealthPort(old) && wantsHealthPort(obj) && obj.Spec.HealthCheckNodePort == 0 {
		obj.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func keepNodePorts(obj, old *corev1.Service) {
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	had := map[key]int32{}
	for _, p := range old.Spec.Ports {
		if p.NodePort != 0 {
			had[key{p.Protocol, p.Port}] = p.NodePort
		}
	}
	type use struct {
		protocol corev1.Protocol
		nodePort int32
	}
	used := map[use]bool{}
	for _, p := range obj.Spec.Ports {
		if p.NodePort != 0 {
			used[use{p.Protocol, p.NodePort}] = true
		}
	}
	for i := range obj.Spec.Ports {
		p := &obj.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		port := had[key{p.Protocol, p.Port}]
		if port != 0 && !used[use{p.Protocol, port}] {
			p.NodePort = port
			used[use{p.Protocol, port}] = true
		}
	}
}

// SyncClusterIPs keeps clusterIP and clusterIPs in step for clients that know one of them; old is nil on create.
func SyncClusterIPs(obj, old *corev1.Service) {
	if old == nil {
		if obj.Spec.ClusterIP != "" && len(obj.Spec.ClusterIPs) == 0 {
			obj.Spec.ClusterIPs = []string{obj.Spec.ClusterIP}
		}
		return
	}
	changed := obj.Spec.ClusterIP != old.Spec.ClusterIP
	same := slices.Equal(obj.Spec.ClusterIPs, old.Spec.ClusterIPs)
	switch {
	case changed && same && obj.Spec.ClusterIP == "":
		obj.Spec.ClusterIPs = nil
	case changed && same:
		obj.Spec.ClusterIPs = []string{obj.Spec.ClusterIP}
	case !changed && len(obj.Spec.ClusterIPs) == 0 && len(old.Spec.ClusterIPs) > 0 && obj.Spec.ClusterIP != "":
		obj.Spec.ClusterIPs = []string{obj.Spec.ClusterIP}
	}
}

// DropForType clears fields that the old type had and the new type has no place for, unless the client changed them, in
// which case validation tells.
func DropForType(obj, old *corev1.Service) {
	if needsClusterIP(old) && !needsClusterIP(obj) {
		if obj.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(obj.Spec.ClusterIPs, old.Spec.ClusterIPs) {
			obj.Spec.ClusterIP, obj.Spec.ClusterIPs = "", nil
		}
		if slices.Equal(obj.Spec.IPFamilies, old.Spec.IPFamilies) {
			obj.Spec.IPFamilies = nil
		}
		if equalPtr(obj.Spec.IPFamilyPolicy, old.Spec.IPFamilyPolicy) {
			obj.Spec.IPFamilyPolicy = nil
		}
		if equalPtr(obj.Spec.InternalTrafficPolicy, old.Spec.InternalTrafficPolicy) {
			obj.Spec.InternalTrafficPolicy = nil
		}
	}
	if mayHaveNodePorts(old) && !mayHaveNodePorts(obj) && slices.Equal(nodePorts(obj), nodePorts(old)) {
		for i := range obj.Spec.Ports {
			obj.Spec.Ports[i].NodePort = 0
		}
	}
	if wantsHealthPort(old) && !wantsHealthPort(obj) && obj.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		obj.Spec.HealthCheckNodePort = 0
	}
	if externallyAccessible(old) && !externallyAccessible(obj) && obj.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		obj.Spec.ExternalTrafficPolicy = ""
	}
	if old.Spec.Type == corev1.ServiceTypeLoadBalancer && obj.Spec.Type != corev1.ServiceTypeLoadBalancer {
		if equalPtr(obj.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			obj.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if equalPtr(obj.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			obj.Spec.LoadBalancerClass = nil
		}
	}
}

func equalPtr[T comparable](a, b *T) bool {
	return a == b || (a != nil && b != nil && *a == *b)
}

// nodePorts are the node ports in the order of the ports; zeros included.
func nodePorts(s *corev1.Service) []int32 {
	var out []int32
	for _, p := range s.Spec.Ports {
		out = append(out, p.NodePort)
	}
	return out
}
