package service

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"
)

const (
	// repairEvery is how often claims are compared with services. Nothing is written when they agree.
	repairEvery = 3 * time.Minute
	// settle is how old a claim without a service must be to count as leaked: the service is written after the claim, and a request lives a minute.
	settle = 2 * time.Minute
)

// leaks remembers node ports that were found claimed by nobody, with the time; a bitmap has no times of its own.
type leaks map[int32]time.Time

// repairs is what a comparison found.
type repairs struct {
	// missing are addresses that services hold without a claim.
	missing map[netip.Addr]*corev1.Service
	// orphans are claims that no service holds.
	orphans []*networkingv1.IPAddress
	// lost are node ports held without being marked, leaked those marked for nobody for a while.
	lost, leaked []int32
}

func (r repairs) empty() bool {
	return len(r.missing) == 0 && len(r.orphans) == 0 && len(r.lost) == 0 && len(r.leaked) == 0
}

// planRepair compares the services with the claims. It records in seen which ports look leaked since when. Claims must
// have been read before the services: then a claim without a service is one that is being made or was left behind.
func planRepair(services []corev1.Service, claimed []networkingv1.IPAddress, b bitmap, prefix netip.Prefix, r PortRange, seen leaks, now time.Time) repairs {
	out := repairs{missing: map[netip.Addr]*corev1.Service{}}
	byName := map[string]*networkingv1.IPAddress{}
	for i := range claimed {
		byName[claimed[i].Name] = &claimed[i]
	}
	holds := map[string]bool{}
	used := map[int32]bool{}
	for i := range services {
		s := &services[i]
		for _, ip := range heldIPs(s) {
			if !usable(prefix, ip) {
				continue
			}
			holds[ip.String()+" "+s.Namespace+"/"+s.Name] = true
			if byName[ip.String()] == nil {
				out.missing[ip] = s
			}
		}
		for port := range heldPorts(s) {
			used[port] = true
			if bit := int(port) - r.First; bit >= 0 && bit < r.size() && !b.has(bit) {
				out.lost = append(out.lost, port)
			}
		}
	}
	for i := range claimed {
		a := &claimed[i]
		ref := a.Spec.ParentRef
		if a.Labels[networkingv1.LabelManagedBy] != managedBy || ref == nil || now.Sub(a.CreationTimestamp.Time) < settle {
			continue
		}
		if !holds[a.Name+" "+ref.Namespace+"/"+ref.Name] {
			out.orphans = append(out.orphans, a)
		}
	}
	out.leaked = leakedPorts(b, r, used, seen, now)
	return out
}

func leakedPorts(b bitmap, r PortRange, used map[int32]bool, seen leaks, now time.Time) []int32 {
	var out []int32
	for bit := range r.size() {
		port := int32(r.First + bit) //nolint:gosec // a port fits
		if !b.has(bit) || used[port] {
			delete(seen, port)
			continue
		}
		since, ok := seen[port]
		if !ok {
			seen[port] = now
			continue
		}
		if now.Sub(since) >= settle {
			out = append(out, port)
		}
	}
	return out
}

// Repair mends claims now and then until ctx ends. Several control planes may do it at once.
func (s *Storage) Repair(ctx context.Context) error {
	s.seen = leaks{}
	ticker := time.NewTicker(repairEvery)
	defer ticker.Stop()
	for {
		if err := s.repairOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.claims.log.Warn("service claims not compared", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *Storage) repairOnce(ctx context.Context, now time.Time) error {
	claimed, err := s.claims.addresses.list(ctx)
	if err != nil {
		return err
	}
	var b bitmap
	if err := s.claims.ports.dryRun(ctx, func(found bitmap) error { b = found; return nil }); err != nil {
		return err
	}
	listed, err := s.Services.List(request.WithNamespace(ctx, ""), &metainternalversion.ListOptions{})
	if err != nil {
		return fmt.Errorf("list services: %w", err)
	}
	plan := planRepair(listed.(*corev1.ServiceList).Items, claimed, b, s.claims.addresses.prefix, s.claims.ports.r, s.seen, now)
	if plan.empty() {
		return nil
	}
	s.claims.log.Info("service claims repaired", "addressesMissing", len(plan.missing), "addressesOrphaned", len(plan.orphans),
		"portsMissing", len(plan.lost), "portsLeaked", len(plan.leaked))
	return s.execute(ctx, plan)
}

func (s *Storage) execute(ctx context.Context, plan repairs) error {
	var errs []error
	for ip, owner := range plan.missing {
		if _, err := s.claims.addresses.store.Create(clusterContext(ctx), addressObject(ip, owner), nil, &metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("claim %s: %w", ip, err))
		}
	}
	for _, orphan := range plan.orphans {
		if err := s.claims.addresses.delete(ctx, orphan); err != nil {
			errs = append(errs, fmt.Errorf("release %s: %w", orphan.Name, err))
		}
	}
	if len(plan.lost)+len(plan.leaked) > 0 {
		errs = append(errs, s.claims.ports.update(ctx, func(b bitmap) error {
			for _, port := range plan.lost {
				b.set(int(port) - s.claims.ports.r.First)
			}
			for _, port := range plan.leaked {
				b.clear(int(port) - s.claims.ports.r.First)
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}
