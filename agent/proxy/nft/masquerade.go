// Package nft applies the node's rules in nftables, over netlink, in tables of its own.
//
// It owns the tables it is told the name of and nothing else of the ruleset. It decides no
// content. So far that content is the masquerading of pods; it is one rule for each pod CIDR,
// where the CNI bridge plugin would make a chain and two rules for each pod and run iptables
// a dozen times for it, which is half of the time an attachment takes.
package nft

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Masquerade says whose traffic leaves the node with the node's own address.
type Masquerade struct {
	Table string // required, this node's alone
	// CIDRs are the pods'. What goes from one of them to an address outside of it, and is
	// not multicast, is masqueraded.
	CIDRs []netip.Prefix
}

const chainName = "postrouting"

// Ensure makes the kernel hold exactly these rules. It reads first and writes nothing where they
// are in place, so it may be called often to notice a foreign flush. changed tells that it wrote.
func (m Masquerade) Ensure() (changed bool, err error) {
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		wrote, err := m.ensure(family)
		if err != nil {
			return changed, fmt.Errorf("masquerade pods in nftables table %s: %w", m.Table, err)
		}
		changed = changed || wrote
	}
	return changed, nil
}

// Remove takes the table away. A table that is not there is success.
func (m Masquerade) Remove() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("list nftables: %w", err)
	}
	found := false
	for _, t := range tables {
		if t.Name == m.Table && (t.Family == nftables.TableFamilyIPv4 || t.Family == nftables.TableFamilyIPv6) {
			c.DelTable(t)
			found = true
		}
	}
	if !found {
		return nil
	}
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove nftables table %s: %w", m.Table, err)
	}
	return nil
}

func (m Masquerade) ensure(family nftables.TableFamily) (bool, error) {
	var cidrs []netip.Prefix
	for _, p := range m.CIDRs {
		if p.Addr().Is4() == (family == nftables.TableFamilyIPv4) {
			cidrs = append(cidrs, p.Masked())
		}
	}
	c, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open: %w", err)
	}
	table := &nftables.Table{Family: family, Name: m.Table}
	chain := &nftables.Chain{
		Name: chainName, Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
	have, there, err := read(c, table, chain)
	if err != nil {
		return false, err
	}
	if len(cidrs) == 0 && !there || there && same(have, cidrs) {
		return false, nil
	}
	// One transaction: there is no moment without the rules.
	c.AddTable(table)
	c.AddChain(chain)
	if there {
		c.FlushChain(chain)
	}
	for _, p := range cidrs {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule(p), UserData: tag(p)})
	}
	if err := c.Flush(); err != nil {
		return false, fmt.Errorf("apply: %w", err)
	}
	return true, nil
}

// read gives the tags of the rules in place.
func read(c *nftables.Conn, table *nftables.Table, chain *nftables.Chain) (tags [][]byte, there bool, err error) {
	// All chains are listed because the error about a missing one does not tell itself apart.
	chains, err := c.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return nil, false, fmt.Errorf("read: %w", err)
	}
	for _, have := range chains {
		there = there || have.Table.Name == table.Name && have.Name == chain.Name
	}
	if !there {
		return nil, false, nil
	}
	rules, err := c.GetRules(table, chain)
	if err != nil {
		return nil, false, fmt.Errorf("read: %w", err)
	}
	for _, r := range rules {
		tags = append(tags, r.UserData)
	}
	return tags, true, nil
}

func same(have [][]byte, want []netip.Prefix) bool {
	if len(have) != len(want) {
		return false
	}
	for i, p := range want {
		if !bytes.Equal(have[i], tag(p)) {
			return false
		}
	}
	return true
}

// tag is the rule's comment, as nft prints it: type 0, length, text, NUL. It is also how a
// rule is known again, so its version changes with the rule.
func tag(p netip.Prefix) []byte {
	text := "coracle v1 pods " + p.String() + "\x00"
	return append([]byte{0, byte(len(text))}, text...)
}

// rule: ip saddr CIDR, ip daddr not in CIDR, not multicast: masquerade.
func rule(p netip.Prefix) []expr.Any {
	size, source, dest, multicast := uint32(4), uint32(12), uint32(16), netip.MustParsePrefix("224.0.0.0/4")
	if p.Addr().Is6() {
		size, source, dest, multicast = 16, 8, 24, netip.MustParsePrefix("ff00::/8")
	}
	var out []expr.Any
	out = append(out, match(source, size, p, expr.CmpOpEq)...)
	out = append(out, match(dest, size, p, expr.CmpOpNeq)...)
	out = append(out, match(dest, size, multicast, expr.CmpOpNeq)...)
	return append(out, &expr.Masq{})
}

// match compares an address of the network header, masked, with the prefix.
func match(offset, size uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}
