package cni

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	cnitypes "github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/link"
)

// Attachment is a pod to attach.
type Attachment struct {
	UID         types.UID
	Namespace   string
	Name        string
	NetnsPath   string             // pinned, exists
	Ports       []v1.ContainerPort // those with a HostPort are mapped
	Annotations map[string]string  // the pod's; bandwidth limits are read from them
}

// Result is what a pod got.
type Result struct {
	IPs []string // without prefix lengths; of the network's first address family first
}

// Attach gives the pod its link and addresses, or finds that it has them. It is idempotent,
// also when an earlier call was cut off at any point, and safe to repeat after an error.
// An error carries the plugin's own words; ErrNotReady means that there is no network yet.
func (c *CNI) Attach(ctx context.Context, a Attachment) (Result, error) {
	unlock := c.busy.lock(a.UID)
	defer unlock()

	had, ok := c.lookup(a.UID)
	if ok && had.added && had.Netns == a.NetnsPath && c.sameNamespace(had.record) && stillThere(a.NetnsPath, had.result) {
		return had.result, nil
	}
	if ok {
		// Cut off half way, or attached to a namespace that is gone: undo with what was recorded.
		if err := c.undo(ctx, had.record); err != nil {
			return Result{}, fmt.Errorf("undo an earlier attachment of pod %s/%s: %w", a.Namespace, a.Name, err)
		}
	}
	list, err := c.network()
	if err != nil {
		return Result{}, err
	}
	inode, err := namespaceInode(a.NetnsPath)
	if err != nil {
		return Result{}, err
	}
	r := record{
		UID: a.UID, Namespace: a.Namespace, Name: a.Name, Netns: a.NetnsPath, BootID: c.bootID, Inode: inode,
		Conflist: list.Bytes, Capabilities: capabilities(a),
	}
	if err := c.writeRecord(r); err != nil {
		return Result{}, err
	}
	result, err := c.add(ctx, list, r)
	if err != nil {
		// The specification asks for DEL after a failed ADD. The caller's context may be what failed.
		if uerr := c.undo(context.WithoutCancel(ctx), r); uerr != nil {
			c.cfg.Log.Warn("clean up after a failed attachment", "pod", a.Namespace+"/"+a.Name, "uid", a.UID, "err", uerr)
		}
		return Result{}, fmt.Errorf("attach pod %s/%s to network %q: %w", a.Namespace, a.Name, list.Name, err)
	}
	return result, nil
}

// Result gives what the pod got, if it is attached to the namespace that is at its path now.
func (c *CNI) Result(uid types.UID) (Result, bool) {
	k, ok := c.lookup(uid)
	if !ok || !k.added || !c.sameNamespace(k.record) {
		return Result{}, false
	}
	return k.result, true
}

// Check asks the plugins whether the pod's attachment is as ADD left it. Plugins that know no
// CHECK are content.
func (c *CNI) Check(ctx context.Context, uid types.UID) error {
	unlock := c.busy.lock(uid)
	defer unlock()
	k, ok := c.lookup(uid)
	if !ok || !k.added {
		return fmt.Errorf("pod %s is not attached: %w", uid, link.ErrNotFound)
	}
	list, err := parseList(k.Conflist)
	if err != nil {
		return err
	}
	release, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	if err := c.lib.CheckNetworkList(ctx, needed(list, k.Capabilities), runtimeConf(k.record)); err != nil {
		return fmt.Errorf("check attachment of pod %s/%s: %w", k.Namespace, k.Name, err)
	}
	return nil
}

func (c *CNI) add(ctx context.Context, list *libcni.NetworkConfigList, r record) (Result, error) {
	release, err := c.acquire(ctx)
	if err != nil {
		return Result{}, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	if err := link.Up(r.Netns, "lo"); err != nil {
		return Result{}, err
	}
	began := time.Now()
	raw, err := c.lib.AddNetworkList(ctx, needed(list, r.Capabilities), runtimeConf(r))
	if err != nil {
		if ctx.Err() != nil {
			return Result{}, fmt.Errorf("%w (after %s)", err, time.Since(began).Round(time.Millisecond))
		}
		return Result{}, err
	}
	result, err := convert(raw)
	if err != nil {
		return Result{}, err
	}
	c.mu.Lock()
	c.known[r.UID] = known{record: r, added: true, result: result}
	c.mu.Unlock()
	c.cfg.Log.Debug("pod attached", "pod", r.Namespace+"/"+r.Name, "uid", r.UID, "ips", result.IPs, "dur", time.Since(began))
	return result, nil
}

func (c *CNI) lookup(uid types.UID) (known, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[uid]
	return k, ok
}

// cachedResult reads libcni's cache. Anything wrong with it counts as "ADD did not finish".
func (c *CNI) cachedResult(r record) (Result, bool) {
	list, err := parseList(r.Conflist)
	if err != nil {
		return Result{}, false
	}
	raw, err := c.lib.GetNetworkListCachedResult(list, runtimeConf(r))
	if err != nil || raw == nil {
		return Result{}, false
	}
	result, err := convert(raw)
	return result, err == nil
}

// convert takes the addresses of the pod's own interface, in the plugins' order.
func convert(raw cnitypes.Result) (Result, error) {
	full, err := types100.NewResultFromResult(raw)
	if err != nil {
		return Result{}, fmt.Errorf("result of the plugins: %w", err)
	}
	var out Result
	for _, ip := range full.IPs {
		if ip.Interface != nil && *ip.Interface >= 0 && *ip.Interface < len(full.Interfaces) {
			// An address of a link on the host's side (Sandbox empty) is not the pod's.
			if full.Interfaces[*ip.Interface].Sandbox == "" {
				continue
			}
		}
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return Result{}, fmt.Errorf("result of the plugins: %v is not an address", ip.Address)
		}
		if s := addr.Unmap().String(); !slices.Contains(out.IPs, s) {
			out.IPs = append(out.IPs, s)
		}
	}
	if len(out.IPs) == 0 {
		return Result{}, fmt.Errorf("the plugins gave the pod no address")
	}
	return out, nil
}

// stillThere looks into the namespace: the link is there and has what ADD said.
func stillThere(netns string, r Result) bool {
	links, err := link.LinksIn(netns)
	if err != nil {
		return false
	}
	for _, l := range links {
		if l.Name != Interface {
			continue
		}
		var have []string
		for _, p := range l.Addresses {
			have = append(have, p.Addr().String())
		}
		for _, ip := range r.IPs {
			if !slices.Contains(have, ip) {
				return false
			}
		}
		return true
	}
	return false
}

// runtimeConf is the same for every call about one attachment. The K8S_ arguments are what
// plugins that talk to the API server identify the pod by.
func runtimeConf(r record) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: string(r.UID),
		NetNS:       r.Netns,
		IfName:      Interface,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", r.Namespace},
			{"K8S_POD_NAME", r.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", string(r.UID)},
			{"K8S_POD_UID", string(r.UID)},
		},
		CapabilityArgs: r.Capabilities,
	}
}

// PortMapping is one entry of the portMappings capability.
type PortMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

// capabilities are the dynamic arguments of the plugins that ask for them, nil when there are none.
func capabilities(a Attachment) map[string]any {
	caps := map[string]any{}
	var ports []PortMapping
	for _, p := range a.Ports {
		if p.HostPort == 0 {
			continue
		}
		proto := p.Protocol
		if proto == "" {
			proto = v1.ProtocolTCP
		}
		ports = append(ports, PortMapping{
			HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: strings.ToLower(string(proto)), HostIP: p.HostIP,
		})
	}
	if len(ports) > 0 {
		caps["portMappings"] = ports
	}
	if bw := bandwidth(a.Annotations); bw != nil {
		caps["bandwidth"] = bw
	}
	if len(caps) == 0 {
		return nil
	}
	return caps
}

// bandwidth reads kubernetes.io/ingress-bandwidth and egress-bandwidth, in bits a second.
// A value that is no quantity is left out: API validation is where it is refused.
func bandwidth(annotations map[string]string) map[string]int64 {
	out := map[string]int64{}
	for key, name := range map[string]string{
		"kubernetes.io/ingress-bandwidth": "ingress", "kubernetes.io/egress-bandwidth": "egress",
	} {
		q, err := resource.ParseQuantity(annotations[key])
		if err != nil || q.Sign() <= 0 {
			continue
		}
		out[name+"Rate"] = q.Value()
		out[name+"Burst"] = 1<<31 - 1 // what a bucket may hold; a smaller one would cap the rate on coarse timers
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
