package server

import (
	"log/slog"
	"net"

	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/config"
	"coracle/controlplane/pki"
)

func pkiOptions(cfg *config.Config, log *slog.Logger) pki.Options {
	return pki.Options{
		Name: cfg.Name, AdvertiseAddress: net.ParseIP(cfg.AdvertiseAddress), ServiceIP: cfg.ServiceIP(),
		ClusterDomain: cfg.ClusterDomain, ServerNames: cfg.ServerNames, Kubeconfig: cfg.Kubeconfig, ServerURL: cfg.LocalURL(), Log: log,
	}
}

func (p *plane) streaming(pods, nodes, services rest.Getter) map[string]rest.Storage { return nil }
