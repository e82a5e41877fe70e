package auth

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"coracle/controlplane/auth/policy"
)

// aggregateRetry is the wait before another try after an error that is not a conflict.
const aggregateRetry = 5 * time.Second

// runAggregation keeps the rules of aggregated ClusterRoles equal to the sum of their parts. Several control planes may run it
// at once: all compute the same, and only a difference is written.
func (a *Auth) runAggregation(ctx context.Context) error {
	informer := a.config.Informers.Rbac().V1().ClusterRoles()
	lister := informer.Lister()
	look := make(chan struct{}, 1) // one pending look covers any number of events
	notify := func() {
		select {
		case look <- struct{}{}:
		default:
		}
	}
	handle, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	})
	if err != nil {
		return fmt.Errorf("watch clusterroles: %w", err)
	}
	defer func() { _ = informer.Informer().RemoveEventHandler(handle) }() // it stops with the informer at the latest
	if !cache.WaitForCacheSync(ctx.Done(), handle.HasSynced) {
		return nil
	}
	var retry <-chan time.Time
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look:
		case <-retry:
		}
		retry = nil
		roles, err := lister.List(labels.Everything())
		if err == nil {
			err = a.aggregate(ctx, roles)
		}
		text := ""
		if err != nil {
			retry, text = time.After(aggregateRetry), err.Error()
		}
		if text != last && text != "" {
			a.config.Log.Error("aggregate clusterroles", "err", err)
		}
		last = text
	}
}

// aggregate writes every aggregated role that differs from its parts.
func (a *Auth) aggregate(ctx context.Context, roles []*rbacv1.ClusterRole) error {
	var first error
	for _, r := range roles {
		rules, changed, err := policy.Aggregate(r, roles)
		if err == nil && changed {
			updated := r.DeepCopy()
			updated.Rules = rules
			_, err = a.config.Client.RbacV1().ClusterRoles().Update(ctx, updated, metav1.UpdateOptions{})
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				err = nil // the informer brings the newer object, and with it another look
			}
		}
		if err != nil && first == nil {
			first = fmt.Errorf("clusterrole %s: %w", r.Name, err)
		}
	}
	return first
}
