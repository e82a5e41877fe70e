package service

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/registry/kind"
)

// managedBy marks the IPAddress objects that are made and deleted here.
const managedBy = "ipallocator.k8s.io"

// blindTries is how many random addresses are tried before all objects are listed: in a range that is half full, eight
// of them fail together once in 256 times.
const blindTries = 8

// addresses claims cluster IPs by creating IPAddress objects.
type addresses struct {
	store  *kind.REST
	prefix netip.Prefix
}

// takenError and outsideError are the client's to mend.
type takenError struct{ ip netip.Addr }

func (e takenError) Error() string {
	return fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", e.ip)
}

func isTaken(err error) bool {
	var taken takenError
	return errors.As(err, &taken)
}

type outsideError struct {
	ip     netip.Addr
	prefix netip.Prefix
}

func (e outsideError) Error() string {
	return fmt.Sprintf("failed to allocate IP %s: the provided IP is not in the valid range. The range of valid IPs is %s", e.ip, e.prefix)
}

// claim takes one address for the service; with dryRun it only says whether that would succeed.
func (a *addresses) claim(ctx context.Context, ip netip.Addr, s *corev1.Service, dryRun []string) error {
	if !usable(a.prefix, ip) {
		return outsideError{ip, a.prefix}
	}
	_, err := a.store.Create(clusterContext(ctx), addressObject(ip, s), nil, &metav1.CreateOptions{DryRun: dryRun})
	if apierrors.IsAlreadyExists(err) {
		return takenError{ip}
	}
	return err
}

// claimAny takes any free address.
func (a *addresses) claimAny(ctx context.Context, s *corev1.Service, dryRun []string) (netip.Addr, error) {
	size := hosts(a.prefix)
	static := staticHosts(size)
	for range blindTries {
		ip := host(a.prefix, static+rand.Uint64N(size-static))
		err := a.claim(ctx, ip, s, dryRun)
		if !isTaken(err) {
			return ip, err
		}
	}
	used, err := a.used(ctx)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, part := range [][2]uint64{{static, size}, {0, static}} {
		n := part[1] - part[0]
		if n == 0 {
			continue
		}
		start := rand.Uint64N(n)
		for i := range n {
			ip := host(a.prefix, part[0]+(start+i)%n)
			if used[ip] {
				continue
			}
			err := a.claim(ctx, ip, s, dryRun)
			if !isTaken(err) {
				return ip, err
			}
			used[ip] = true
		}
	}
	return netip.Addr{}, errFull
}

func (a *addresses) used(ctx context.Context) (map[netip.Addr]bool, error) {
	list, err := a.list(ctx)
	if err != nil {
		return nil, err
	}
	used := map[netip.Addr]bool{}
	for i := range list {
		if ip, err := netip.ParseAddr(list[i].Name); err == nil {
			used[ip] = true
		}
	}
	return used, nil
}

func (a *addresses) list(ctx context.Context) ([]networkingv1.IPAddress, error) {
	obj, err := a.store.List(clusterContext(ctx), &metainternalversion.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list ipaddresses: %w", err)
	}
	return obj.(*networkingv1.IPAddressList).Items, nil
}

// release gives an address back if it is the service's. An address that is nobody's or another's is left.
func (a *addresses) release(ctx context.Context, ip netip.Addr, s *corev1.Service) error {
	ctx = clusterContext(ctx)
	obj, err := a.store.Get(ctx, ip.String(), &metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	found := obj.(*networkingv1.IPAddress)
	if !ownedBy(found, s.Namespace, s.Name) {
		return nil
	}
	return a.delete(ctx, found)
}

func (a *addresses) delete(ctx context.Context, found *networkingv1.IPAddress) error {
	options := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &found.UID}}
	_, _, err := a.store.Delete(clusterContext(ctx), found.Name, rest.ValidateAllObjectFunc, options)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func addressObject(ip netip.Addr, s *corev1.Service) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Name: ip.String(),
			Labels: map[string]string{
				networkingv1.LabelIPAddressFamily: string(familyOf(ip)),
				networkingv1.LabelManagedBy:       managedBy,
			},
		},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{
			Resource: "services", Namespace: s.Namespace, Name: s.Name,
		}},
	}
}

func ownedBy(a *networkingv1.IPAddress, namespace, name string) bool {
	ref := a.Spec.ParentRef
	return ref != nil && ref.Group == "" && ref.Resource == "services" && ref.Namespace == namespace && ref.Name == name
}

// clusterContext is for objects outside namespaces, whoever's request it is.
func clusterContext(ctx context.Context) context.Context {
	return request.WithRequestInfo(request.WithNamespace(ctx, ""), &request.RequestInfo{
		APIGroup: networkingv1.GroupName, APIVersion: "v1", Resource: "ipaddresses", IsResourceRequest: true,
	})
}

// usable excludes the network's own address and, in IPv4, the broadcast address.
func usable(prefix netip.Prefix, ip netip.Addr) bool {
	if !prefix.Contains(ip) || ip == prefix.Masked().Addr() {
		return false
	}
	return !ip.Is4() || ip != host(prefix, hosts(prefix))
}

// hosts counts the usable addresses. Ranges beyond 2^63 addresses are used up to that size.
func hosts(prefix netip.Prefix) uint64 {
	bits := prefix.Addr().BitLen() - prefix.Bits()
	if bits >= 63 {
		return 1 << 63
	}
	n := uint64(1)<<bits - 1
	if prefix.Addr().Is4() && n > 0 {
		n--
	}
	return n
}

// staticHosts is how many addresses at the beginning are given last, for people who choose their own (KEP-3070).
func staticHosts(size uint64) uint64 {
	if size <= 16 {
		return 0
	}
	return min(max(16, size/16), 256)
}

// host is the address number i of a range, 0 being the first usable one.
func host(prefix netip.Prefix, i uint64) netip.Addr {
	base := prefix.Masked().Addr()
	i++
	if base.Is4() {
		b := base.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(i))
		return netip.AddrFrom4(b)
	}
	b := base.As16()
	low := binary.BigEndian.Uint64(b[8:])
	sum := low + i
	binary.BigEndian.PutUint64(b[8:], sum)
	if sum < low {
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])+1)
	}
	return netip.AddrFrom16(b)
}
