package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// leases gives out the addresses of the agent's own network. On disk they are as the host-local plugin keeps them, and
// under its lock, so that the plugin's DEL and GC free what was given out here and the other way round:
//
//	lock                 flock(2)ed while something changes
//	ADDRESS              "UID\r\nINTERFACE"
//	last_reserved_ip.N   the last address given out of range N: the next pod gets the one after
type leases struct{ dir string }

// take gives the pod one address of each range, with the range's prefix length. The first address of a range is its gateway's.
func (l leases) take(uid types.UID, ranges []netip.Prefix) (out []netip.Prefix, err error) {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of leases: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock leases: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which unlocks
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock leases: %w", err)
	}
	for i, r := range ranges {
		a, err := l.takeFrom(uid, i, r)
		if err != nil {
			return nil, err // what was taken before goes with DEL
		}
		out = append(out, netip.PrefixFrom(a, r.Bits()))
	}
	return out, nil
}

func (l leases) takeFrom(uid types.UID, index int, r netip.Prefix) (netip.Addr, error) {
	mark := filepath.Join(l.dir, "last_reserved_ip."+strconv.Itoa(index))
	first := gatewayOf(r).Next()
	a := first
	if data, err := os.ReadFile(mark); err == nil {
		if last, err := netip.ParseAddr(strings.TrimSpace(string(data))); err == nil && usable(r, last.Next()) {
			a = last.Next()
		}
	}
	for start, turned := a, false; !turned || a != start; a = a.Next() {
		if !usable(r, a) {
			if turned || !usable(r, first) {
				break
			}
			a, turned = first, true
			if a == start {
				break
			}
		}
		ok, err := l.reserve(uid, a)
		if err != nil {
			return netip.Addr{}, err
		}
		if ok {
			if err := os.WriteFile(mark, []byte(a.String()), 0o600); err != nil {
				return netip.Addr{}, fmt.Errorf("write lease: %w", err)
			}
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %s is free", r)
}

// reserve makes the lease's file; false: the address is somebody's.
func (l leases) reserve(uid types.UID, a netip.Addr) (bool, error) {
	f, err := os.OpenFile(filepath.Join(l.dir, a.String()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write lease: %w", err)
	}
	_, err = f.WriteString(string(uid) + "\r\n" + Interface)
	if err = errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("write lease: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return true, nil
}

func gatewayOf(r netip.Prefix) netip.Addr { return r.Masked().Addr().Next() }

// usable says whether a pod may have the address: it lies in the range and is not its broadcast address.
func usable(r netip.Prefix, a netip.Addr) bool {
	return a.IsValid() && r.Contains(a) && (a.Is6() || r.Contains(a.Next()))
}
