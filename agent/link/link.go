// Package link is the agent's only door to netlink: links, addresses, routes and their
// changes, on the machine and inside pinned network namespaces.
//
// It owns no state. It does not decide anything either: callers say which link, address or
// namespace they mean. Every function is safe for concurrent use, and none changes the
// network namespace of the calling thread once it has returned.
package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrNotFound is returned where the named link or namespace does not exist.
var ErrNotFound = errors.New("not found")

// Link is one network interface.
type Link struct {
	Name  string
	Index int
	MTU   int
	Up    bool
	MAC   string
	// Master is the index of the bridge that the link is a port of; 0: none.
	Master int
	// Addresses are its global and link-local addresses with their prefix lengths.
	Addresses []netip.Prefix
}

// Links lists every link of the agent's own network namespace with its addresses.
func Links() ([]Link, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	return links(h)
}

// LinksIn lists the links of the network namespace pinned at path. ErrNotFound: nothing is pinned there.
func LinksIn(path string) ([]Link, error) {
	h, done, err := handleAt(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return links(h)
}

func links(h *netlink.Handle) ([]Link, error) {
	list, err := whole(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	// One dump for all addresses: a request for each link would grow with the pods of the node.
	addrs, err := whole(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	byIndex := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := prefix(a.IPNet); ok {
			byIndex[a.LinkIndex] = append(byIndex[a.LinkIndex], p)
		}
	}
	out := make([]Link, 0, len(list))
	for _, l := range list {
		at := l.Attrs()
		out = append(out, Link{
			Name: at.Name, Index: at.Index, MTU: at.MTU, Up: at.Flags&net.FlagUp != 0,
			MAC: at.HardwareAddr.String(), Master: at.MasterIndex, Addresses: byIndex[at.Index],
		})
	}
	return out, nil
}

// whole asks for a list again that changed while the kernel wrote it, as lists of links do where pods come and go.
func whole[T any](list func() ([]T, error)) (out []T, err error) {
	const tries = 10
	for range tries {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}

// Up brings a link of the namespace pinned at path up. The loopback of a fresh namespace
// is down, and programs in it expect 127.0.0.1.
func Up(path, name string) error {
	h, done, err := handleAt(path)
	if err != nil {
		return err
	}
	defer done()
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s in %s: %w", name, path, notFound(err))
	}
	if l.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring up link %s in %s: %w", name, path, err)
	}
	return nil
}

// Remove deletes a link of the agent's own namespace. A link that does not exist is success.
func Remove(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.Is(notFound(err), ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}

// RemoveBridge removes a bridge and what is still plugged into it. The other ends of the
// veths, inside pods, go with them.
func RemoveBridge(name string) error {
	all, err := Links()
	if err != nil {
		return err
	}
	index := 0
	for _, l := range all {
		if l.Name == name {
			index = l.Index
		}
	}
	if index == 0 {
		return nil
	}
	var errs []error
	for _, l := range all {
		if l.Master == index {
			errs = append(errs, Remove(l.Name))
		}
	}
	return errors.Join(append(errs, Remove(name))...)
}

// handleAt opens netlink inside the namespace pinned at path; done closes it.
func handleAt(path string) (h *netlink.Handle, done func(), err error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNotFound
		}
		return nil, nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	if isNamespace(ns) {
		h, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	} else {
		err = ErrNotFound
	}
	if err := errors.Join(err, ns.Close()); err != nil {
		return nil, nil, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return h, h.Close, nil
}

// isNamespace tells a namespace from the plain file under its mount point, which is all that a power cut leaves.
func isNamespace(ns netns.NsHandle) bool {
	var fs unix.Statfs_t
	err := unix.Fstatfs(int(ns), &fs)
	return err == nil && (fs.Type == unix.NSFS_MAGIC || fs.Type == unix.PROC_SUPER_MAGIC)
}

func notFound(err error) error {
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return ErrNotFound
	}
	return err
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), true
}
