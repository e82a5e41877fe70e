package link

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Try makes a bridge and a veth pair in a network namespace of its own, which is gone when it
// returns, and so tells whether the kernel has what pods' networks are made of.
func Try() error {
	result := make(chan error)
	go func() {
		// The thread stays in the namespace and ends with the goroutine, because it is never unlocked.
		runtime.LockOSThread()
		result <- try()
	}()
	return <-result
}

func try() error {
	ns, err := netns.New()
	if err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	defer func() { _ = ns.Close() }() // the namespace goes with the thread
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "try-bridge"}}); err != nil {
		return fmt.Errorf("make a bridge: %w", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "try-a"}, PeerName: "try-b"}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make a veth pair: %w", err)
	}
	return nil
}
