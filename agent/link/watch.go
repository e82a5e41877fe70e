package link

import (
	"context"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Watch calls changed whenever an address or a default route of the machine changes, until
// ctx ends. It only says "look again": the caller reads the state anew. Pods come and go with
// addresses of their own inside namespaces, which are not seen here; their veths carry none.
func Watch(ctx context.Context, changed func()) error {
	done := make(chan struct{})
	defer close(done)
	// Buffered so that a burst (a link going down drops many routes) does not stop the
	// reader of the socket; what matters is that one change is seen.
	addrs := make(chan netlink.AddrUpdate, 64)
	routes := make(chan netlink.RouteUpdate, 64)
	broken := make(chan error, 2)
	report := func(err error) {
		select {
		case broken <- err:
		default:
		}
	}
	err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: report})
	if err != nil {
		return fmt.Errorf("subscribe to addresses: %w", err)
	}
	err = netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: report})
	if err != nil {
		return fmt.Errorf("subscribe to routes: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return fmt.Errorf("netlink subscription: %w", err)
		case a, ok := <-addrs:
			if !ok {
				return fmt.Errorf("netlink closed the subscription to addresses")
			}
			if a.LinkAddress.IP.IsGlobalUnicast() {
				changed()
			}
		case r, ok := <-routes:
			if !ok {
				return fmt.Errorf("netlink closed the subscription to routes")
			}
			if isDefault(r) {
				changed()
			}
		}
	}
}

func isDefault(r netlink.RouteUpdate) bool {
	if r.Table != unix.RT_TABLE_MAIN {
		return false
	}
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
