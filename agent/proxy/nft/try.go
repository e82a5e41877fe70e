package nft

import (
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"
)

// Try applies a rule in a network namespace of its own, which is gone when it returns, and so
// tells whether the kernel can do what this package does.
func Try() error {
	result := make(chan error)
	go func() {
		// The thread stays in the namespace and ends with the goroutine, because it is never unlocked.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		_, err := Masquerade{Table: "try", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}.Ensure()
		result <- err
	}()
	return <-result
}
