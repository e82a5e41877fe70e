// Package server assembles the control plane: it alone knows all other packages of controlplane/, and it alone starts
// goroutines for them.
//
//	etcd → pki → Listen (port, loopback client) → auth, admission → gateway, scheduler, controllers → API server
//
// Everything is built before anything runs, because informers must be asked for before they are started. Two layers run:
// the ground (etcd, API server), and on it the parts that are clients of the API. At the end the parts stop first, then
// the API server answers what is in flight, then etcd closes. Killing the process at any moment is as good: all state is
// in etcd and in the data folder, and every part begins by looking.
package server

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"coracle/controlplane/config"
	"coracle/controlplane/etcd"
	"coracle/controlplane/pki"
)

// Run serves until ctx ends (nil) or a part fails for good. cfg must be complete.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	captureLogs(log)
	follow := limitMemory(cfg, log)
	store, err := etcd.Start(ctx, etcd.Config{
		Dir: cfg.EtcdDir(), Endpoints: cfg.Etcd.Endpoints,
		TLS: etcd.TLS{CAFile: cfg.Etcd.CAFile, CertFile: cfg.Etcd.CertFile, KeyFile: cfg.Etcd.KeyFile},
		Log: log,
	})
	if err != nil {
		return err
	}
	defer store.Close()
	material, err := pki.Ensure(cfg.PKIDir(), pkiOptions(cfg, log))
	if err != nil {
		return err
	}
	p, err := build(ctx, cfg, log, store, material)
	if err != nil {
		return err
	}
	if follow {
		p.parts = append(p.parts, part{"memory", followMemory})
	}
	return p.run(ctx)
}

// run starts both layers and stops them in order.
func (p *plane) run(ctx context.Context) error {
	// The ground outlives ctx: the parts need the API to finish what they are doing.
	groundCtx, stopGround := context.WithCancel(context.WithoutCancel(ctx))
	defer stopGround()
	partsCtx, stopParts := context.WithCancel(ctx)
	defer stopParts()

	var ground, parts errgroup.Group
	start := func(g *errgroup.Group, ctx context.Context, name string, run func(context.Context) error) {
		g.Go(func() error {
			err := run(ctx)
			// Whatever ends before it was told to ends the process.
			defer stopParts()
			switch {
			case ctx.Err() != nil:
				return nil
			case err == nil:
				return fmt.Errorf("%s ended by itself", name)
			}
			return fmt.Errorf("%s: %w", name, err)
		})
	}
	start(&ground, groundCtx, "etcd", p.etcd.Run)
	start(&ground, groundCtx, "api server", p.api.Run)
	for _, part := range p.parts {
		start(&parts, partsCtx, part.name, p.whenReady(part.run))
	}
	err := parts.Wait()
	stopGround()
	if groundErr := ground.Wait(); err == nil {
		err = groundErr
	}
	p.log.Info("stopped")
	return err
}

// whenReady holds a part back until the cluster is set up.
func (p *plane) whenReady(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-p.ready:
			return run(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}
