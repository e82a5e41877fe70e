package service

import (
	"context"
	"log/slog"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/util/dryrun"

	"coracle/controlplane/registry/kind"
)

// Config is what the storage of services is built from.
type Config struct {
	Env kind.Env
	// Prefix is the range of cluster IPs.
	Prefix netip.Prefix
	// Ports is the range of node ports.
	Ports PortRange
	// Addresses is the storage of ipaddresses, Endpoints that of endpoints.
	Addresses *kind.REST
	Endpoints *kind.REST
	Log       *slog.Logger
}

// Storage serves services and mends their claims.
type Storage struct {
	Services *kind.REST
	Status   *kind.Sub
	claims   *claims
	seen     leaks
}

// Build makes the storage of services.
func Build(cfg Config) (*Storage, error) {
	main, status, err := Services().Build(cfg.Env)
	if err != nil {
		return nil, err
	}
	p, err := newPorts(cfg.Env.RESTOptions, cfg.Ports)
	if err != nil {
		return nil, err
	}
	c := &claims{addresses: &addresses{store: cfg.Addresses, prefix: cfg.Prefix.Masked()}, ports: p, log: cfg.Log}
	destroy := main.DestroyFunc
	main.DestroyFunc = func() { p.close(); destroy() }
	main.BeginCreate = func(ctx context.Context, obj runtime.Object, options *metav1.CreateOptions) (genericregistry.FinishFunc, error) {
		return finisher(c.begin(ctx, obj.(*corev1.Service), nil, options.DryRun))
	}
	main.BeginUpdate = func(ctx context.Context, obj, old runtime.Object, options *metav1.UpdateOptions) (genericregistry.FinishFunc, error) {
		return finisher(c.begin(ctx, obj.(*corev1.Service), old.(*corev1.Service), options.DryRun))
	}
	main.AfterDelete = func(obj runtime.Object, options *metav1.DeleteOptions) {
		if options == nil || !dryrun.IsDryRun(options.DryRun) {
			c.deleted(obj.(*corev1.Service), cfg.Endpoints)
		}
	}
	return &Storage{Services: main, Status: status, claims: c}, nil
}

func finisher(t *transaction, err error) (genericregistry.FinishFunc, error) {
	if err != nil {
		return nil, err
	}
	return t.finish, nil
}
