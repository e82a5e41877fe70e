package networking

import (
	"context"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/networking"
	"coracle/controlplane/registry/kind"
)

var versions = []string{networkingv1.SchemeGroupVersion.String()}

// count gives a changed spec the next generation.
func count(obj, old metav1.Object, spec, oldSpec any) {
	obj.SetGeneration(old.GetGeneration())
	if !apiequality.Semantic.DeepEqual(spec, oldSpec) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
}

// Ingresses describes ingresses.
func Ingresses() kind.Kind[*networkingv1.Ingress] {
	return kind.Kind[*networkingv1.Ingress]{
		Group: networkingv1.GroupName, Versions: versions, Resource: "ingresses", Singular: "ingress", Short: []string{"ing"},
		New:     func() *networkingv1.Ingress { return &networkingv1.Ingress{} },
		NewList: func() runtime.Object { return &networkingv1.IngressList{} },
		Main: kind.Strategy[*networkingv1.Ingress]{
			Create: func(_ context.Context, obj *networkingv1.Ingress) {
				obj.Status, obj.Generation = networkingv1.IngressStatus{}, 1
			},
			Update: func(_ context.Context, obj, old *networkingv1.Ingress) {
				obj.Status = old.Status
				count(obj, old, obj.Spec, old.Spec)
			},
			Validate: networking.ValidateIngress, ValidateUpdate: networking.ValidateIngressUpdate,
			Warn: func(obj, old *networkingv1.Ingress) []string {
				if _, ok := obj.Annotations[networking.ClassAnnotation]; ok && old == nil && obj.Spec.IngressClassName == nil {
					return []string{`annotation "` + networking.ClassAnnotation + `" is deprecated, please use 'spec.ingressClassName' instead`}
				}
				return nil
			},
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*networkingv1.Ingress]{
			Update:         func(_ context.Context, obj, old *networkingv1.Ingress) { obj.Spec = old.Spec },
			ValidateUpdate: networking.ValidateIngressStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// IngressClasses describes ingressclasses.
func IngressClasses() kind.Kind[*networkingv1.IngressClass] {
	return kind.Kind[*networkingv1.IngressClass]{
		Group: networkingv1.GroupName, Versions: versions, Resource: "ingressclasses", Singular: "ingressclass", ClusterScoped: true,
		New:     func() *networkingv1.IngressClass { return &networkingv1.IngressClass{} },
		NewList: func() runtime.Object { return &networkingv1.IngressClassList{} },
		Main: kind.Strategy[*networkingv1.IngressClass]{
			Create: func(_ context.Context, obj *networkingv1.IngressClass) { obj.Generation = 1 },
			Update: func(_ context.Context, obj, old *networkingv1.IngressClass) {
				count(obj, old, obj.Spec, old.Spec)
			},
			Validate: networking.ValidateIngressClass, ValidateUpdate: networking.ValidateIngressClassUpdate,
		},
	}
}

// NetworkPolicies describes networkpolicies.
func NetworkPolicies() kind.Kind[*networkingv1.NetworkPolicy] {
	return kind.Kind[*networkingv1.NetworkPolicy]{
		Group: networkingv1.GroupName, Versions: versions, Resource: "networkpolicies", Singular: "networkpolicy", Short: []string{"netpol"},
		New:     func() *networkingv1.NetworkPolicy { return &networkingv1.NetworkPolicy{} },
		NewList: func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
		Main: kind.Strategy[*networkingv1.NetworkPolicy]{
			Create: func(_ context.Context, obj *networkingv1.NetworkPolicy) { obj.Generation = 1 },
			Update: func(_ context.Context, obj, old *networkingv1.NetworkPolicy) {
				count(obj, old, obj.Spec, old.Spec)
			},
			Validate: networking.ValidateNetworkPolicy, ValidateUpdate: networking.ValidateNetworkPolicyUpdate,
		},
	}
}

// ServiceCIDRs describes servicecidrs.
func ServiceCIDRs() kind.Kind[*networkingv1.ServiceCIDR] {
	return kind.Kind[*networkingv1.ServiceCIDR]{
		Group: networkingv1.GroupName, Versions: versions, Resource: "servicecidrs", Singular: "servicecidr", ClusterScoped: true,
		New:     func() *networkingv1.ServiceCIDR { return &networkingv1.ServiceCIDR{} },
		NewList: func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
		Main: kind.Strategy[*networkingv1.ServiceCIDR]{
			Create: func(_ context.Context, obj *networkingv1.ServiceCIDR) {
				obj.Status = networkingv1.ServiceCIDRStatus{}
			},
			Update:   func(_ context.Context, obj, old *networkingv1.ServiceCIDR) { obj.Status = old.Status },
			Validate: networking.ValidateServiceCIDR, ValidateUpdate: networking.ValidateServiceCIDRUpdate,
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*networkingv1.ServiceCIDR]{
			Update:         func(_ context.Context, obj, old *networkingv1.ServiceCIDR) { obj.Spec = old.Spec },
			ValidateUpdate: networking.ValidateServiceCIDRStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}
