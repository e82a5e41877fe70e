// Package discovery serves endpointslices.
package discovery

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/discovery"
	"coracle/controlplane/registry/kind"
)

// EndpointSlices describes endpointslices.
func EndpointSlices() kind.Kind[*discoveryv1.EndpointSlice] {
	return kind.Kind[*discoveryv1.EndpointSlice]{
		Group: discoveryv1.GroupName, Versions: []string{discoveryv1.SchemeGroupVersion.String()},
		Resource: "endpointslices", Singular: "endpointslice",
		New:     func() *discoveryv1.EndpointSlice { return &discoveryv1.EndpointSlice{} },
		NewList: func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
		Main: kind.Strategy[*discoveryv1.EndpointSlice]{
			Create: func(_ context.Context, obj *discoveryv1.EndpointSlice) {
				obj.Generation = 1
				hostnameTopology(obj, nil)
			},
			Update: func(_ context.Context, obj, old *discoveryv1.EndpointSlice) {
				obj.Generation = old.Generation
				if changed(obj, old) {
					obj.Generation = old.Generation + 1
				}
				hostnameTopology(obj, old)
			},
			Validate: discovery.ValidateEndpointSlice, ValidateUpdate: discovery.ValidateEndpointSliceUpdate,
		},
	}
}

// changed compares all but metadata; labels count because they say which service the slice is for.
func changed(obj, old *discoveryv1.EndpointSlice) bool {
	return !apiequality.Semantic.DeepEqual(obj.Endpoints, old.Endpoints) ||
		!apiequality.Semantic.DeepEqual(obj.Ports, old.Ports) ||
		obj.AddressType != old.AddressType ||
		!apiequality.Semantic.DeepEqual(obj.Labels, old.Labels)
}

// hostnameTopology drops the node name from the topology of endpoints that the request did not bring: v1 has a field of
// its own for it.
func hostnameTopology(obj, old *discoveryv1.EndpointSlice) {
	if old != nil && apiequality.Semantic.DeepEqual(obj.Endpoints, old.Endpoints) {
		return
	}
	for i := range obj.Endpoints {
		delete(obj.Endpoints[i].DeprecatedTopology, corev1.LabelHostname)
	}
}
