package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Bridge is a bridge of the machine that pods are plugged into.
type Bridge struct {
	Name string
	MTU  int // 0: the kernel's choice
	// Gateways are its addresses, one for each address family; another one of the same family is replaced.
	Gateways []netip.Prefix
}

// Plug is a pod's link to a bridge.
type Plug struct {
	Namespace string // where the pod's network namespace is pinned
	Name      string // of the link in it
	HostName  string // of its other end; longer names than the kernel takes are an error
	MTU       int    // 0: the kernel's choice
	MAC       net.HardwareAddr
	Addresses []netip.Prefix // with the lengths of their networks
	Gateways  []netip.Addr   // a default route leads to each
}

// PlugIn makes the bridge where it is missing, and the pod's link with addresses and routes. The link must not exist in the
// namespace; what an error leaves goes with the removal of either end. It returns the MAC addresses of the bridge and of the link's host end.
func PlugIn(b Bridge, p Plug) (bridgeMAC, hostMAC string, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", "", fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	bridge, err := ensureBridge(h, b)
	if err != nil {
		return "", "", fmt.Errorf("bridge %s: %w", b.Name, err)
	}
	ns, err := netns.GetFromPath(p.Namespace)
	if err != nil {
		return "", "", fmt.Errorf("network namespace %s: %w", p.Namespace, err)
	}
	defer func() { _ = ns.Close() }() // a namespace that was only looked up
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.HostName, MTU: p.MTU, MasterIndex: bridge.Attrs().Index, Flags: net.FlagUp, TxQLen: -1},
		PeerName:  p.Name, PeerHardwareAddr: p.MAC, PeerNamespace: netlink.NsFd(ns),
	}
	if err := addAnew(h, veth); err != nil {
		return "", "", fmt.Errorf("make link %s: %w", p.HostName, err)
	}
	// A pod reaches itself through its own service or host port.
	if err := h.LinkSetHairpin(veth, true); err != nil {
		return "", "", fmt.Errorf("set hairpin mode of link %s: %w", p.HostName, err)
	}
	made, err := h.LinkByName(p.HostName)
	if err != nil {
		return "", "", fmt.Errorf("link %s: %w", p.HostName, notFound(err))
	}
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return "", "", fmt.Errorf("enter network namespace %s: %w", p.Namespace, err)
	}
	defer inside.Close()
	if err := configure(inside, p); err != nil {
		return "", "", fmt.Errorf("link %s in %s: %w", p.Name, p.Namespace, err)
	}
	return bridge.Attrs().HardwareAddr.String(), made.Attrs().HardwareAddr.String(), nil
}

// addAnew makes a link. One of its name is the rest of a namespace that is gone: the kernel takes such links away some
// time after the namespace itself.
func addAnew(h *netlink.Handle, l netlink.Link) error {
	err := h.LinkAdd(l)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	old, err := h.LinkByName(l.Attrs().Name)
	if err == nil {
		err = h.LinkDel(old)
	}
	if err = notFound(err); err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove the old one: %w", err)
	}
	return h.LinkAdd(l)
}

// configure gives the pod's end its addresses and routes, through a handle inside the namespace.
func configure(h *netlink.Handle, p Plug) error {
	l, err := h.LinkByName(p.Name)
	if err != nil {
		return notFound(err)
	}
	for _, a := range p.Addresses {
		if err := h.AddrAdd(l, address(a)); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	for _, gateway := range p.Gateways {
		// The destination is left out: that is the default route of the gateway's family.
		if err := h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("add route to gateway %s: %w", gateway, err)
		}
	}
	return nil
}

// address is for AddrAdd. IPv6 must not look for duplicates first: the address would be of no use for a second, and
// nobody but the node gives out addresses of its range.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func ensureBridge(h *netlink.Handle, b Bridge) (netlink.Link, error) {
	l, err := h.LinkByName(b.Name)
	if errors.Is(notFound(err), ErrNotFound) {
		l, err = makeBridge(h, b)
	}
	if err != nil {
		return nil, err
	}
	if l.Type() != "bridge" {
		return nil, fmt.Errorf("a link of this name exists and is a %s", l.Type())
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(l); err != nil {
			return nil, fmt.Errorf("bring up: %w", err)
		}
	}
	for _, gateway := range b.Gateways {
		if err := ensureAddress(h, l, gateway); err != nil {
			return nil, err
		}
		if err := forward(gateway.Addr()); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func makeBridge(h *netlink.Handle, b Bridge) (netlink.Link, error) {
	err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: b.Name, MTU: b.MTU, TxQLen: -1}})
	if err != nil && !errors.Is(err, unix.EEXIST) { // another pod is being plugged in
		return nil, fmt.Errorf("make: %w", err)
	}
	l, err := h.LinkByName(b.Name)
	if err != nil {
		return nil, notFound(err)
	}
	// Set explicitly it stays; else it is that of a port and changes as pods come and go.
	if err := h.LinkSetHardwareAddr(l, l.Attrs().HardwareAddr); err != nil {
		return nil, fmt.Errorf("set MAC address: %w", err)
	}
	// The node is a router here and must not believe one in a pod. A kernel without IPv6 has no such file.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+b.Name+"/accept_ra", []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return l, nil
}

// ensureAddress gives the bridge its address; as it does, another global one of the same family is taken away.
func ensureAddress(h *netlink.Handle, l netlink.Link, want netip.Prefix) error {
	// Nearly always it is there, and to be told so is far cheaper than to list the addresses of all links.
	err := h.AddrAdd(l, address(want))
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("add address %s: %w", want, err)
	}
	family := netlink.FAMILY_V4
	if want.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	have, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(l, family) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range have {
		p, ok := prefix(a.IPNet)
		if !ok || p == want || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if err := h.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s: %w", p, err)
		}
	}
	return nil
}

// forward lets the machine route for pods.
func forward(a netip.Addr) error {
	path := "/proc/sys/net/ipv4/ip_forward"
	if a.Is6() {
		path = "/proc/sys/net/ipv6/conf/all/forwarding"
	}
	if have, err := os.ReadFile(path); err == nil && len(have) > 0 && have[0] == '1' {
		return nil
	}
	if err := os.WriteFile(path, []byte("1"), 0); err != nil {
		return fmt.Errorf("let the machine forward packets: %w", err)
	}
	return nil
}
