package node

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"coracle/agent/cni"
	"coracle/agent/config"
	"coracle/agent/link"
	"coracle/agent/proxy/nft"
	"coracle/agent/store"
)

const (
	// networkResync repairs what others took away: rules by a firewall reload, the conflist by a mistake.
	networkResync = 30 * time.Second
	// settle gathers the many messages of one change of the network, a DHCP renewal or a link that
	// comes up, into one look.
	settle = 200 * time.Millisecond
	// watchRetry is the pause after a broken netlink subscription.
	watchRetry = 5 * time.Second
)

// network keeps the node's side of pod networking in shape: its own addresses, the conflist where
// the administrator gave none, and the masquerading of pods.
type network struct {
	cfg     config.Config
	cni     *cni.CNI
	store   *store.Store
	log     *slog.Logger
	changed chan struct{} // one slot: "report the node anew"
	moved   func()        // called when the node's addresses have changed; nil: nobody cares

	mu        sync.Mutex
	primary   link.Primary
	addresses []string
	nftBroken bool
	said      string // the trouble that was logged last
}

func newNetwork(cfg config.Config, c *cni.CNI, s *store.Store, log *slog.Logger) *network {
	return &network{cfg: cfg, cni: c, store: s, log: log, changed: make(chan struct{}, 1)}
}

// Addresses are the node's own, primary first.
func (n *network) Addresses() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.addresses)
}

// Changed receives when the node should be reported anew.
func (n *network) Changed() <-chan struct{} { return n.changed }

// reportAnew asks for a report of the node, for a part that has something new to say.
func (n *network) reportAnew() { signal(n.changed) }

// Run follows the machine's addresses and the node's pod CIDR until ctx ends.
func (n *network) Run(ctx context.Context) error {
	changes := n.store.Watch()
	defer n.store.Unwatch(changes)
	poke := make(chan struct{}, 1) // one slot: "look again"
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { n.watch(ctx, "addresses", poke, link.Watch) })
	watching.Go(func() {
		n.watch(ctx, "firewall rules", poke, func(ctx context.Context, changed func()) error {
			return nft.Watch(ctx, n.masquerade().Table, changed)
		})
	})

	n.look()
	resync := time.NewTicker(networkResync)
	defer resync.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-changes:
			if !ok {
				return nil // the store was closed: the agent ends
			}
			if c.Kind != store.KindNode && !c.All && !c.Completed {
				continue
			}
		case <-poke:
			if !pause(ctx, settle) {
				return nil
			}
		case <-resync.C:
		}
		n.look()
	}
}

// watch keeps a subscription going; what it may have missed is looked at after it broke.
func (n *network) watch(ctx context.Context, what string, poke chan<- struct{}, run func(context.Context, func()) error) {
	said := ""
	for ctx.Err() == nil {
		err := run(ctx, func() { signal(poke) })
		if ctx.Err() != nil {
			return
		}
		if text := fmt.Sprint(err); text != said {
			n.log.Warn("changes are seen late", "what", what, "retry", watchRetry, "err", err)
			said = text
		}
		pause(ctx, watchRetry)
		signal(poke)
	}
}

// look reads the machine and brings it to what the node's pods need. It never fails: a
// trouble is logged when it changes, shown by Ready, and met again at the next look.
func (n *network) look() {
	primary, _, err := link.FindPrimary(n.cfg.NodeIP, n.cfg.CNI.Bridge)
	if err != nil {
		n.trouble("read the node's addresses", err)
		return
	}
	addresses := make([]string, 0, len(primary.Addresses))
	for _, a := range primary.Addresses {
		addresses = append(addresses, a.String())
	}
	n.mu.Lock()
	before := n.addresses
	n.primary, n.addresses = primary, addresses
	n.mu.Unlock()
	if !slices.Equal(before, addresses) {
		n.log.Info("the node's addresses", "addresses", addresses, "link", primary.Link.Name)
		signal(n.changed)
		if n.moved != nil {
			n.moved()
		}
	}
	wasReady := n.cni.Ready() == nil
	if err := n.ensure(primary); err != nil {
		n.trouble("prepare the network of pods", err)
		return
	}
	n.trouble("", nil)
	if ready := n.cni.Ready() == nil; ready != wasReady {
		signal(n.changed)
	}
}

// ensure writes the agent's own conflist, and the rule that goes with it, where that network is the one in use.
func (n *network) ensure(primary link.Primary) error {
	cidrs := n.podCIDRs()
	own := cni.Own{
		File: n.cfg.CNI.ConfFile, Bridge: n.cfg.CNI.Bridge, MTU: n.cfg.CNI.MTU,
		PodCIDRs: cidrs, PluginMasquerade: n.masqueradeByPlugin(),
	}
	if own.MTU == 0 {
		own.MTU = primary.Link.MTU
	}
	if len(cidrs) == 0 {
		return n.cni.SetOwn(own)
	}
	if !own.PluginMasquerade {
		m := n.masquerade()
		for _, c := range cidrs {
			if p, err := netip.ParsePrefix(c); err == nil {
				m.CIDRs = append(m.CIDRs, p)
			}
		}
		wrote, err := m.Ensure()
		if err != nil {
			n.log.Warn("nftables cannot be used; the bridge plugin masquerades each pod by itself with iptables", "err", err)
			n.mu.Lock()
			n.nftBroken = true
			n.mu.Unlock()
			own.PluginMasquerade = true
		} else if wrote {
			n.log.Info("pods are masqueraded", "podCIDRs", cidrs, "table", m.Table)
		}
	}
	return n.cni.SetOwn(own)
}

func (n *network) masqueradeByPlugin() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nftBroken
}

// masquerade is the rule's table; named after the bridge, so that several agents in one network
// namespace do not share one.
func (n *network) masquerade() nft.Masquerade {
	return nft.Masquerade{Table: "coracle-" + n.cfg.CNI.Bridge}
}

// podCIDRs are the configuration's, else those of the Node object in the store, which is there
// without a control plane too.
func (n *network) podCIDRs() []string {
	if c := n.cfg.PodCIDRs(); len(c) > 0 {
		return c
	}
	node, ok := n.store.Node()
	if !ok {
		return nil
	}
	if len(node.Spec.PodCIDRs) > 0 {
		return node.Spec.PodCIDRs
	}
	if node.Spec.PodCIDR != "" {
		return []string{node.Spec.PodCIDR}
	}
	return nil
}

// trouble logs each change of what is wrong once.
func (n *network) trouble(what string, err error) {
	text := ""
	if err != nil {
		text = what + ": " + err.Error()
	}
	n.mu.Lock()
	changed := n.said != text
	n.said = text
	n.mu.Unlock()
	if changed && err != nil {
		n.log.Warn("network of pods", "step", what, "err", err)
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits; false means that ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
