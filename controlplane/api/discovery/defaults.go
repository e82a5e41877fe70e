package discovery

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/fill"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, defaultEndpointSlice)
	fill.List(s, func(l *discoveryv1.EndpointSliceList) []discoveryv1.EndpointSlice { return l.Items }, defaultEndpointSlice)
	return nil
}

func defaultEndpointSlice(e *discoveryv1.EndpointSlice) {
	for i := range e.Ports {
		fill.Pointer(&e.Ports[i].Name, "")
		fill.Pointer(&e.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}
