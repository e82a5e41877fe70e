package server

import (
	"context"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/registry/podstream"
	"coracle/internal/usage"
)

// streaming makes the subresources that reach into nodes, over the gateway.
func (p *plane) streaming(pods, nodes, services rest.Getter) map[string]rest.Storage {
	slices := p.informers.Discovery().V1().EndpointSlices().Lister()
	return podstream.New(podstream.Config{
		Pods: pods, Nodes: nodes, Services: services, Streams: p.gateway,
		EndpointSlices: func(namespace, service string) ([]*discoveryv1.EndpointSlice, error) {
			return slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}))
		},
	})
}

// usage asks a node, over the gateway, what it and its pods use now.
func (p *plane) usage(ctx context.Context, node string) (*usage.Node, error) {
	return podstream.Usage(ctx, p.gateway, node)
}
