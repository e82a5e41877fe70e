// Package nodeipam gives each node the addresses of its pods: spec.podCIDRs, one range of each family.
//
// A range that was given is kept as long as the node exists and may be given again only afterwards. The ranges in
// use are read from the nodes themselves, so nothing is remembered and nothing can differ from them.
package nodeipam

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Pool is a range that is cut into ranges of one size for nodes.
type Pool struct {
	Prefix netip.Prefix
	Bits   int // mask size of a node's range
}

// maxBits is how much smaller than the pool a node's range may be: more could not be searched through.
const maxBits = 16

// ParsePools reads "10.244.0.0/16" or, for two families, "10.244.0.0/16,fd00:10:244::/56". maskSize is of the
// IPv4 ranges; 0 means 24. IPv6 ranges are /64.
func ParsePools(cidrs string, maskSize int) ([]Pool, error) {
	var pools []Pool
	for text := range strings.SplitSeq(cidrs, ",") {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("parse the pod range %q: %w", text, err)
		}
		p := Pool{Prefix: prefix.Masked(), Bits: 64}
		if prefix.Addr().Is4() {
			p.Bits = cmp.Or(maskSize, 24)
		}
		if p.Bits < prefix.Bits() || p.Bits > prefix.Addr().BitLen() || p.Bits-prefix.Bits() > maxBits {
			return nil, fmt.Errorf("pod range %s cannot be cut into ranges of /%d for nodes: choose a mask size from %d to %d",
				prefix, p.Bits, prefix.Bits(), min(prefix.Bits()+maxBits, prefix.Addr().BitLen()))
		}
		pools = append(pools, p)
	}
	if len(pools) > 2 || (len(pools) == 2 && pools[0].Prefix.Addr().Is4() == pools[1].Prefix.Addr().Is4()) {
		return nil, fmt.Errorf("pod ranges %q: one range, or one of each family", cidrs)
	}
	return pools, nil
}

// size is how many nodes the pool serves.
func (p Pool) size() uint64 { return 1 << (p.Bits - p.Prefix.Bits()) }

// at is the i-th range of the pool.
func (p Pool) at(i uint64) netip.Prefix {
	if p.Prefix.Addr().Is4() {
		a := p.Prefix.Addr().As4()
		binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])+uint32(i)<<(32-p.Bits))
		return netip.PrefixFrom(netip.AddrFrom4(a), p.Bits)
	}
	a := p.Prefix.Addr().As16() // Bits is 64: only the upper half differs
	binary.BigEndian.PutUint64(a[:8], binary.BigEndian.Uint64(a[:8])+i<<(64-p.Bits))
	return netip.PrefixFrom(netip.AddrFrom16(a), p.Bits)
}

// Assignment is the ranges for a node that has none yet.
type Assignment struct {
	Node  string
	CIDRs []string
}

// MakePlan gives a range of each pool to every node without one, the oldest node first. full names the nodes for
// which nothing was left.
func MakePlan(pools []Pool, nodes []*corev1.Node) (assign []Assignment, full []string) {
	var used []netip.Prefix
	var bare []*corev1.Node
	for _, n := range nodes {
		given := slices.Clone(n.Spec.PodCIDRs)
		if n.Spec.PodCIDR != "" {
			given = append(given, n.Spec.PodCIDR)
		}
		if len(given) == 0 && n.DeletionTimestamp == nil {
			bare = append(bare, n)
		}
		for _, text := range given {
			// What cannot be read cannot overlap with what is given here either.
			if prefix, err := netip.ParsePrefix(text); err == nil {
				used = append(used, prefix.Masked())
			}
		}
	}
	slices.SortFunc(bare, func(a, b *corev1.Node) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	taken := make([]map[uint64]bool, len(pools))
	next := make([]uint64, len(pools))
	for i, p := range pools {
		taken[i] = occupied(p, used)
	}
	for _, n := range bare {
		a := Assignment{Node: n.Name}
		for i, p := range pools {
			for next[i] < p.size() && taken[i][next[i]] {
				next[i]++
			}
			if next[i] < p.size() {
				a.CIDRs = append(a.CIDRs, p.at(next[i]).String())
			}
		}
		if len(a.CIDRs) < len(pools) {
			full = append(full, n.Name)
			continue
		}
		for i := range pools {
			next[i]++
		}
		assign = append(assign, a)
	}
	return assign, full
}

// occupied is which ranges of the pool overlap with any in use, also where those have another size.
func occupied(p Pool, used []netip.Prefix) map[uint64]bool {
	out := map[uint64]bool{}
	for _, u := range used {
		if !u.Overlaps(p.Prefix) {
			continue
		}
		if u.Bits() <= p.Prefix.Bits() {
			for i := range p.size() {
				out[i] = true
			}
			continue
		}
		first := index(p, u.Addr())
		count := uint64(1)
		if u.Bits() < p.Bits {
			count = 1 << (p.Bits - u.Bits())
		}
		for i := range count {
			out[first+i] = true
		}
	}
	return out
}

func index(p Pool, a netip.Addr) uint64 {
	if a.Is4() {
		x, y := a.As4(), p.Prefix.Addr().As4()
		return uint64((binary.BigEndian.Uint32(x[:]) - binary.BigEndian.Uint32(y[:])) >> (32 - p.Bits))
	}
	x, y := a.As16(), p.Prefix.Addr().As16()
	return (binary.BigEndian.Uint64(x[:8]) - binary.BigEndian.Uint64(y[:8])) >> (64 - p.Bits)
}
