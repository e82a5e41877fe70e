package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Who loses the Lease stops within renewDeadline; who waits takes over after leaseDuration. The pace is slower than
// kube-controller-manager's, because each renewal is a write to disk.
const (
	leaseName     = "coracle-control"
	leaseDuration = 30 * time.Second
	renewDeadline = 20 * time.Second
	retryPeriod   = 5 * time.Second
)

// lead runs scheduler and controllers where it is this process's turn. With the embedded etcd there can be no other
// process, so nobody is asked.
func (p *plane) lead(ctx context.Context) error {
	if p.etcd.Embedded() {
		return p.runLed(ctx)
	}
	for ctx.Err() == nil {
		if err := p.leadOnce(ctx); err != nil {
			return err
		}
	}
	return nil
}

// leadOnce waits for the Lease, leads, and returns when it was lost, with the error of what it led.
func (p *plane) leadOnce(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	lock := &witness{Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: leaseName},
		Client:     p.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: p.cfg.Name},
	}}
	var failed error
	done := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				defer close(done)
				p.log.Info("leading: scheduler and controllers run here")
				failed = p.runLed(ctx)
				stop()
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				if identity != p.cfg.Name && identity != "" {
					p.log.Info("another control plane leads", "leader", identity)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("elect a leader: %w", err)
	}
	elector.Run(ctx)
	if !lock.held.Load() {
		return nil
	}
	timeout := time.NewTimer(leaseDuration - renewDeadline)
	defer timeout.Stop()
	select {
	case <-done:
		return failed
	case <-timeout.C:
		// What was led did not stop, and another process may lead from now on.
		return errors.New("scheduler and controllers did not stop after the lease was lost")
	}
}

// witness remembers that the lock was taken: from then on what is led is started, soon or already.
type witness struct {
	resourcelock.Interface
	held atomic.Bool
}

// Create implements resourcelock.Interface.
func (w *witness) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return w.note(r, w.Interface.Create(ctx, r))
}

// Update implements resourcelock.Interface.
func (w *witness) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return w.note(r, w.Interface.Update(ctx, r))
}

func (w *witness) note(r resourcelock.LeaderElectionRecord, err error) error {
	if err == nil && r.HolderIdentity == w.Identity() {
		w.held.Store(true)
	}
	return err
}

// runLed runs scheduler and controllers until ctx ends or one of them fails.
func (p *plane) runLed(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.scheduler.Run(ctx) })
	g.Go(func() error { return p.control.Run(ctx) })
	return g.Wait()
}
