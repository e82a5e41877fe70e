package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/util/dryrun"
)

// undoTimeout bounds giving claims back after the request that made them failed.
const undoTimeout = 10 * time.Second

// claims gives services their addresses and ports. Safe for concurrent use, also by several processes.
type claims struct {
	addresses *addresses
	ports     *ports
	log       *slog.Logger
}

// transaction is what one request claimed, and what it makes free if it succeeds.
type transaction struct {
	claims *claims
	s      *corev1.Service
	dry    bool
	// claimed is given back on failure.
	claimedIPs   []netip.Addr
	claimedPorts []int32
	// freed is given back on success.
	freedIPs   []netip.Addr
	freedPorts []int32
}

// finish is the registry's FinishFunc: it gives back the claims of a failed request, or what a successful one no longer
// uses. What cannot be given back now is found by Repair.
func (t *transaction) finish(ctx context.Context, success bool) {
	if t.dry {
		return
	}
	ips, ports := t.claimedIPs, t.claimedPorts
	if success {
		ips, ports = t.freedIPs, t.freedPorts
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := t.claims.release(ctx, t.s, ips, ports); err != nil {
		t.claims.log.Warn("service keeps claims until the next repair", "service", t.s.Namespace+"/"+t.s.Name, "err", err)
	}
}

func (c *claims) release(ctx context.Context, s *corev1.Service, ips []netip.Addr, ports []int32) error {
	var errs []error
	for _, ip := range ips {
		if err := c.addresses.release(ctx, ip, s); err != nil {
			errs = append(errs, fmt.Errorf("release %s: %w", ip, err))
		}
	}
	if len(ports) > 0 {
		err := c.ports.update(ctx, func(b bitmap) error {
			for _, port := range ports {
				if bit := int(port) - c.ports.r.First; bit >= 0 && bit < c.ports.r.size() {
					b.clear(bit)
				}
			}
			return nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("release node ports %v: %w", ports, err))
		}
	}
	return errors.Join(errs...)
}

// begin claims what s needs beyond what old holds (nil on create) and writes it into s.
func (c *claims) begin(ctx context.Context, s, old *corev1.Service, dryRun []string) (*transaction, error) {
	t := &transaction{claims: c, s: s, dry: dryrun.IsDryRun(dryRun)}
	if old != nil {
		Reconcile(s, old)
	} else {
		SyncClusterIPs(s, nil)
	}
	errs := SetFamilies(s, familyOf(c.addresses.prefix.Addr()))
	if len(errs) == 0 {
		errs = t.claimIP(ctx, s, old, dryRun)
	}
	if len(errs) == 0 {
		errs = t.claimPorts(ctx, s, old)
	}
	if len(errs) > 0 {
		t.finish(ctx, false)
		return nil, refusal(s, errs)
	}
	if old != nil {
		t.freedPorts = minus(heldPorts(old), heldPorts(s))
	}
	return t, nil
}

// refusal is Invalid where the client can mend it and an internal error where the ranges are full or etcd fails.
func refusal(s *corev1.Service, errs field.ErrorList) error {
	for _, e := range errs {
		if e.Type == field.ErrorTypeInternal {
			return apierrors.NewInternalError(errors.New(e.Detail))
		}
	}
	return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Service").GroupKind(), s.Name, errs)
}

func (t *transaction) claimIP(ctx context.Context, s, old *corev1.Service, dryRun []string) field.ErrorList {
	if old != nil && needsClusterIP(old) {
		if !needsClusterIP(s) {
			t.freedIPs = heldIPs(old)
		}
		// An address never changes while the type needs one: validation refuses it.
		return nil
	}
	if !needsClusterIP(s) || wanted(s) == headless {
		return nil
	}
	at := field.NewPath("spec", "clusterIPs")
	ip, err := t.pick(ctx, s, dryRun)
	if err == nil {
		t.claimedIPs = append(t.claimedIPs, ip)
		s.Spec.ClusterIP, s.Spec.ClusterIPs = ip.String(), []string{ip.String()}
		return nil
	}
	var outside outsideError
	if isTaken(err) || errors.As(err, &outside) {
		return field.ErrorList{field.Invalid(at, s.Spec.ClusterIPs, err.Error())}
	}
	if errors.Is(err, errNoAddress) {
		return field.ErrorList{field.Invalid(at.Index(0), wanted(s), err.Error())}
	}
	return field.ErrorList{field.InternalError(at, fmt.Errorf("failed to allocate a serviceIP: %w", err))}
}

var errNoAddress = errors.New("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")

func (t *transaction) pick(ctx context.Context, s *corev1.Service, dryRun []string) (netip.Addr, error) {
	if wanted(s) == "" {
		return t.claims.addresses.claimAny(ctx, s, dryRun)
	}
	ip, err := netip.ParseAddr(wanted(s))
	if err != nil {
		return netip.Addr{}, errNoAddress
	}
	return ip, t.claims.addresses.claim(ctx, ip, s, dryRun)
}

func (t *transaction) claimPorts(ctx context.Context, s, old *corev1.Service) field.ErrorList {
	if !t.portsMissing(s, old) {
		return nil
	}
	var plan portPlan
	var errs field.ErrorList
	change := func(b bitmap) error {
		plan, errs = assignPorts(b, t.claims.ports.r, s, old, random)
		return errs.ToAggregate()
	}
	run := t.claims.ports.update
	if t.dry {
		run = t.claims.ports.dryRun
	}
	if err := run(ctx, change); err != nil {
		if len(errs) > 0 {
			return errs
		}
		return field.ErrorList{field.InternalError(field.NewPath("spec", "ports"), fmt.Errorf("failed to allocate node ports: %w", err))}
	}
	t.claimedPorts = plan.claimed
	plan.apply(s)
	return nil
}

// portsMissing spares the round trip to etcd for the services, nearly all, that need no port.
func (t *transaction) portsMissing(s, old *corev1.Service) bool {
	if !mayHaveNodePorts(s) {
		return false
	}
	held := heldPorts(old)
	if wantsHealthPort(s) && (s.Spec.HealthCheckNodePort == 0 || !held[s.Spec.HealthCheckNodePort]) {
		return true
	}
	for _, p := range s.Spec.Ports {
		if p.NodePort == 0 && wantsNodePorts(s) {
			return true
		}
		if p.NodePort != 0 && !held[p.NodePort] {
			return true
		}
	}
	return false
}

// heldIPs are the addresses that a stored service holds.
func heldIPs(s *corev1.Service) []netip.Addr {
	if !needsClusterIP(s) {
		return nil
	}
	var out []netip.Addr
	for _, text := range s.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil {
			out = append(out, ip)
		}
	}
	return out
}

func minus(a, b map[int32]bool) []int32 {
	var out []int32
	for port := range a {
		if !b[port] {
			out = append(out, port)
		}
	}
	return out
}
