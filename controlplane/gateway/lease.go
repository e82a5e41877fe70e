package gateway

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"coracle/internal/liveness"
)

const (
	leaseWorkers = 4
	// endDelay is how long a node may be away before its Lease says so: a restart of the agent
	// or a change of address costs no write.
	endDelay = 5 * time.Second
	// returnTime is how long the nodes have to come back after this gateway started before
	// those that do not are said to have gone.
	returnTime = liveness.GatewayLeaseDuration
	// addressAnnotation, on a gateway's Lease, is where other gateways reach it.
	addressAnnotation = "coracle.dev/gateway-address"
)

// renewLease keeps the gateway's own Lease fresh, which stands for all its sessions.
func (g *Gateway) renewLease(ctx context.Context) error {
	t := time.NewTicker(liveness.GatewayRenewInterval)
	defer t.Stop()
	failed, looked := false, false
	for {
		// A write that hangs must not outlast the interval in which the next one is due.
		try, cancel := context.WithTimeout(ctx, liveness.GatewayRenewInterval)
		err := g.writeGatewayLease(try)
		cancel()
		if err != nil && !failed && ctx.Err() == nil {
			g.c.Log.Warn("gateway lease not renewed; without it the nodes will be taken for lost", "err", err)
		}
		failed = err != nil
		if now := g.c.Now(); !looked && now.Sub(g.startedAt()) >= returnTime {
			looked = true
			g.markAbsent()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (g *Gateway) startedAt() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.started
}

func (g *Gateway) writeGatewayLease(ctx context.Context) error {
	leases := g.c.Client.CoordinationV1().Leases(liveness.GatewayLeaseNamespace)
	name, now := liveness.GatewayLeaseName(g.c.Name), metav1.NewMicroTime(g.c.Now())
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: liveness.GatewayLeaseNamespace, Name: name}}
	} else if err != nil {
		return fmt.Errorf("read lease %s: %w", name, err)
	}
	lease.Spec.HolderIdentity = ptr.To(g.c.Name)
	lease.Spec.LeaseDurationSeconds = ptr.To(liveness.GatewayLeaseDurationSeconds)
	lease.Spec.RenewTime = &now
	if g.c.AdvertiseAddress != "" {
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, addressAnnotation, g.c.AdvertiseAddress)
	}
	if missing {
		lease.Spec.AcquireTime = &now
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write lease %s: %w", name, err)
	}
	return nil
}

// markAbsent looks at the nodes that were this gateway's before it started and have not come back.
func (g *Gateway) markAbsent() {
	all, err := g.world.lease.Leases(liveness.NodeLeaseNamespace).List(labels.Everything())
	if err != nil {
		g.c.Log.Error("node leases unreadable", "err", err)
		return
	}
	for _, lease := range all {
		if s := liveness.ReadSession(lease); s.Live() && s.Gateway == g.c.Name && g.session(lease.Name) == nil {
			g.mu.Lock()
			if _, known := g.ended[lease.Name]; !known {
				g.ended[lease.Name] = g.started
			}
			// A node that polls may stay away for longer, as its Lease says.
			if d := time.Duration(ptr.Deref(lease.Spec.LeaseDurationSeconds, 0)) * time.Second; d > liveness.GatewayLeaseDuration {
				g.expect[lease.Name] = d
			}
			g.mu.Unlock()
			g.leases.put(lease.Name, struct{}{})
		}
	}
}

// writeNodeLease makes a node's Lease say what is true of its session here. It writes when a
// session begins or ends and at no other time.
func (g *Gateway) writeNodeLease(ctx context.Context, node string) error {
	g.mu.Lock()
	_, connected := g.sessions[node]
	ended, known := g.ended[node]
	away := max(g.expect[node], endDelay)
	g.mu.Unlock()
	if !connected && !known {
		return nil
	}
	if left := away - g.c.Now().Sub(ended); !connected && left > 0 && left <= away {
		g.leases.after(node, left)
		return nil
	}
	have, err := g.world.lease.Leases(liveness.NodeLeaseNamespace).Get(node)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read lease: %w", err)
	}
	if err == nil && g.leaseSays(have, connected) {
		return nil
	}
	leases := g.c.Client.CoordinationV1().Leases(liveness.NodeLeaseNamespace)
	lease, err := leases.Get(ctx, node, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: liveness.NodeLeaseNamespace, Name: node}}
	} else if err != nil {
		return fmt.Errorf("read lease: %w", err)
	}
	if g.leaseSays(lease, connected) {
		return nil
	}
	now := metav1.NewMicroTime(g.c.Now())
	if connected {
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != g.c.Name {
			lease.Spec.AcquireTime = &now
		}
		lease.Spec.HolderIdentity = ptr.To(g.c.Name)
		lease.Spec.LeaseDurationSeconds = ptr.To(max(liveness.GatewayLeaseDurationSeconds, int32(away/time.Second)))
		lease.Spec.RenewTime = &now
		delete(lease.Annotations, liveness.SessionEndedAnnotation)
	} else {
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, liveness.SessionEndedAnnotation, ended.UTC().Format(time.RFC3339))
	}
	if missing {
		_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write lease: %w", err)
	}
	return nil
}

// leaseSays is true where the Lease need not be written: it says so already, or the node has gone over to another gateway.
func (g *Gateway) leaseSays(lease *coordinationv1.Lease, connected bool) bool {
	s := liveness.ReadSession(lease)
	if connected {
		return s.Live() && s.Gateway == g.c.Name
	}
	return s.Gateway != g.c.Name || !s.Live()
}

// holder is the gateway that holds the node's session according to the Leases, and whether
// node and gateway are alive.
func (g *Gateway) holder(node string) (name string, live bool) {
	lease, err := g.world.lease.Leases(liveness.NodeLeaseNamespace).Get(node)
	if err != nil {
		return "", false
	}
	s := liveness.ReadSession(lease)
	if !s.Live() {
		return s.Gateway, false
	}
	own, err := g.world.lease.Leases(liveness.GatewayLeaseNamespace).Get(liveness.GatewayLeaseName(s.Gateway))
	if err != nil || own.Spec.RenewTime == nil {
		return s.Gateway, false
	}
	return s.Gateway, g.c.Now().Sub(own.Spec.RenewTime.Time) < liveness.GatewayLeaseDuration
}

// since says in words when a node was last connected, for people who ask for its logs.
func (g *Gateway) since(node string) string {
	g.mu.Lock()
	ended, ok := g.ended[node]
	g.mu.Unlock()
	if !ok {
		lease, err := g.world.lease.Leases(liveness.NodeLeaseNamespace).Get(node)
		if err == nil {
			ended = liveness.ReadSession(lease).Ended
		}
	}
	if ended.Unix() <= 0 {
		return "it has not connected since the control plane started"
	}
	return "it was last heard of at " + ended.UTC().Format(time.RFC3339)
}
