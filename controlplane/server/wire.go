package server

import (
	"log/slog"
	"net"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/config"
	"coracle/controlplane/pki"
	"coracle/controlplane/registry/podstream"
)

func pkiOptions(cfg *config.Config, log *slog.Logger) pki.Options {
	return pki.Options{
		Name: cfg.Name, AdvertiseAddress: net.ParseIP(cfg.AdvertiseAddress), ServiceIP: cfg.ServiceIP(),
		ClusterDomain: cfg.ClusterDomain, ServerNames: cfg.ServerNames, Kubeconfig: cfg.Kubeconfig, ServerURL: cfg.LocalURL(), Log: log,
	}
}

// streaming makes the subresources that reach into nodes, over the gateway's sessions.
func (p *plane) streaming(pods, nodes, services rest.Getter) map[string]rest.Storage {
	slices := p.informers.Discovery().V1().EndpointSlices().Lister()
	return podstream.New(podstream.Config{
		Pods: pods, Nodes: nodes, Services: services, Streams: p.gateway,
		EndpointSlices: func(namespace, service string) ([]*discoveryv1.EndpointSlice, error) {
			return slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}))
		},
	})
}
