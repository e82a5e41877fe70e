package link

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Primary is how the machine reaches the rest of the network.
type Primary struct {
	Link Link
	// Addresses that stand for the node: at most one IPv4 and one IPv6, IPv4 first.
	Addresses []netip.Addr
}

// FindPrimary gives the link and addresses of the default routes. want narrows the choice:
// empty, an address, or the name of a link. ignore names the bridge of the pods, which carries
// an address that is never the node's. ok is false when nothing fits, which on a machine
// whose network is not up yet is an ordinary state and no error.
func FindPrimary(want, ignore string) (p Primary, ok bool, err error) {
	all, err := Links()
	if err != nil {
		return Primary{}, false, err
	}
	if want != "" {
		p, ok = choose(all, want)
		return p, ok, nil
	}
	byIndex := map[int]Link{}
	for _, l := range all {
		byIndex[l.Index] = l
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		index, source, found, err := defaultRoute(family)
		if err != nil {
			return Primary{}, false, err
		}
		l, known := byIndex[index]
		if !found || !known {
			continue
		}
		addr := source
		if !addr.IsValid() {
			addr = first(l, family)
		}
		if !addr.IsValid() {
			continue
		}
		if p.Link.Index == 0 {
			p.Link = l
		}
		p.Addresses = append(p.Addresses, addr)
	}
	if len(p.Addresses) > 0 {
		return p, true, nil
	}
	p, ok = fallback(all, ignore)
	return p, ok, nil
}

// defaultRoute finds the default route with the lowest metric.
func defaultRoute(family int) (index int, source netip.Addr, ok bool, err error) {
	routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return 0, netip.Addr{}, false, fmt.Errorf("list routes: %w", err)
	}
	best := -1
	for i, r := range routes {
		if r.Dst != nil {
			if ones, _ := r.Dst.Mask.Size(); ones != 0 {
				continue
			}
		}
		if r.Type != unix.RTN_UNICAST || (r.LinkIndex == 0 && len(r.MultiPath) == 0) {
			continue
		}
		if best < 0 || r.Priority < routes[best].Priority {
			best = i
		}
	}
	if best < 0 {
		return 0, netip.Addr{}, false, nil
	}
	r := routes[best]
	index = r.LinkIndex
	if index == 0 {
		index = r.MultiPath[0].LinkIndex
	}
	if a, valid := netip.AddrFromSlice(r.Src); valid {
		source = a.Unmap()
	}
	return index, source, true, nil
}

// choose picks the address or the link that the configuration names.
func choose(all []Link, want string) (Primary, bool) {
	addr, err := netip.ParseAddr(want)
	for _, l := range all {
		if err != nil {
			if l.Name == want {
				return of(l)
			}
			continue
		}
		for _, p := range l.Addresses {
			if p.Addr() == addr {
				return Primary{Link: l, Addresses: []netip.Addr{addr}}, true
			}
		}
	}
	return Primary{}, false
}

// fallback serves a machine with an address and no default route, as in an isolated plant
// network or a test's namespace: the first link that is up and is no bridge for pods.
func fallback(all []Link, ignore string) (Primary, bool) {
	for _, l := range all {
		if !l.Up || l.Master != 0 || l.Name == ignore || isLoopback(l) {
			continue
		}
		if p, ok := of(l); ok {
			return p, true
		}
	}
	return Primary{}, false
}

func of(l Link) (Primary, bool) {
	p := Primary{Link: l}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if a := first(l, family); a.IsValid() {
			p.Addresses = append(p.Addresses, a)
		}
	}
	return p, len(p.Addresses) > 0
}

func first(l Link, family int) netip.Addr {
	for _, p := range l.Addresses {
		a := p.Addr()
		if a.IsLoopback() || a.IsLinkLocalUnicast() || !a.IsValid() {
			continue
		}
		if a.Is4() == (family == netlink.FAMILY_V4) {
			return a
		}
	}
	return netip.Addr{}
}

func isLoopback(l Link) bool {
	for _, p := range l.Addresses {
		if p.Addr().IsLoopback() {
			return true
		}
	}
	return l.Name == "lo"
}
