package server

import (
	"context"
	"net"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/config"
	"coracle/controlplane/pki"
	"coracle/controlplane/registry/kind"
	"log/slog"
)

func pkiOptions(cfg *config.Config, log *slog.Logger) pki.Options {
	return pki.Options{
		Name: cfg.Name, AdvertiseAddress: net.ParseIP(cfg.AdvertiseAddress), ServiceIP: cfg.ServiceIP(),
		ClusterDomain: cfg.ClusterDomain, ServerNames: cfg.ServerNames, Kubeconfig: cfg.Kubeconfig, ServerURL: cfg.LocalURL(), Log: log,
	}
}

func tables() kind.Env {
	return kind.Env{Table: rest.NewDefaultTableConvertor(schema.GroupResource{Resource: "x"})}
}

func (p *plane) streaming(pods, nodes, services rest.Getter) map[string]rest.Storage { return nil }

func (p *plane) led() []part {
	return []part{{"scheduler", p.scheduler.Run}, {"wait", func(ctx context.Context) error { <-ctx.Done(); return nil }}}
}
