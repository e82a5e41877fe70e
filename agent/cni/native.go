package cni

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	cnitypes "github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/link"
)

// nativeADD does what the bridge and host-local plugins do at ADD for the agent's own conflist, in this process: the two
// programs cost more than half of all CPU that a pod's network takes. done is false where the call is about anything
// else, a conflist that was edited included; then the plugin runs. CHECK, DEL and GC are the plugins' always, and what is
// made here is as they make it.
//
// Differs from the plugins: the MAC address follows from the first IP address, so that neighbours who remember the pod
// that had the address before need not be told.
func (c *CNI) nativeADD(path string, stdin []byte, environ []string) (result []byte, done bool, err error) {
	if filepath.Base(path) != "bridge" || variable(environ, "CNI_COMMAND") != "ADD" || variable(environ, "CNI_IFNAME") != Interface {
		return nil, false, nil
	}
	conf, ok := c.nativeConf(stdin)
	if !ok {
		return nil, false, nil
	}
	ranges := make([]netip.Prefix, 0, len(conf.IPAM.Ranges))
	bridge := link.Bridge{Name: conf.Bridge, MTU: conf.MTU}
	for _, set := range conf.IPAM.Ranges {
		r, err := netip.ParsePrefix(set[0].Subnet)
		if err != nil {
			return nil, true, fmt.Errorf("pod CIDR %q: %w", set[0].Subnet, err)
		}
		ranges = append(ranges, r)
		bridge.Gateways = append(bridge.Gateways, netip.PrefixFrom(gatewayOf(r), r.Bits()))
	}
	uid, netns := variable(environ, "CNI_CONTAINERID"), variable(environ, "CNI_NETNS")
	addresses, err := leases{filepath.Join(conf.IPAM.DataDir, conf.Name)}.take(types.UID(uid), ranges)
	if err != nil {
		return nil, true, err
	}
	plug := link.Plug{
		Namespace: netns, Name: Interface, HostName: hostName(uid), MTU: conf.MTU, MAC: macOf(addresses[0].Addr()), Addresses: addresses,
	}
	for _, g := range bridge.Gateways {
		plug.Gateways = append(plug.Gateways, g.Addr())
	}
	bridgeMAC, hostMAC, err := link.PlugIn(bridge, plug)
	if err != nil {
		return nil, true, err
	}
	result, err = json.Marshal(addResult(conf.CNIVersion, bridge, plug, bridgeMAC, hostMAC))
	return result, true, err
}

// nativeConf is what libcni hands to a plugin for the own conflist.
type nativeConf struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	ownPlugin
}

// nativeConf reads a configuration that the agent itself has written; false for every other.
func (c *CNI) nativeConf(stdin []byte) (conf nativeConf, ok bool) {
	in := json.NewDecoder(bytes.NewReader(stdin))
	in.DisallowUnknownFields()
	if in.Decode(&conf) != nil || conf.Name != NetworkName || conf.CNIVersion != "1.0.0" || conf.IPAM == nil {
		return conf, false
	}
	plain := conf.Type == "bridge" && conf.Bridge != "" && conf.IsDefaultGateway && conf.ForceAddress && conf.HairpinMode && !conf.IPMasq &&
		conf.IPAM.Type == "host-local" && conf.IPAM.DataDir == c.leaseDir() && len(conf.IPAM.Ranges) > 0
	return conf, plain && !slices.ContainsFunc(conf.IPAM.Ranges, func(set []ownRange) bool { return len(set) != 1 })
}

func addResult(version string, b link.Bridge, p link.Plug, bridgeMAC, hostMAC string) *types100.Result {
	inPod := 2
	out := &types100.Result{
		CNIVersion: version,
		Interfaces: []*types100.Interface{
			{Name: b.Name, Mac: bridgeMAC}, {Name: p.HostName, Mac: hostMAC}, {Name: p.Name, Mac: p.MAC.String(), Sandbox: p.Namespace},
		},
	}
	for i, a := range p.Addresses {
		out.IPs = append(out.IPs, &types100.IPConfig{
			Interface: &inPod, Gateway: p.Gateways[i].AsSlice(),
			Address: net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())},
		})
		everything := net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if a.Addr().Is6() {
			everything = net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		out.Routes = append(out.Routes, &cnitypes.Route{Dst: everything, GW: p.Gateways[i].AsSlice()})
	}
	return out
}

// hostName is that of the host's end of a pod's link: the same for the same pod, and as short as the kernel wants it.
func hostName(uid string) string {
	sum := sha256.Sum256([]byte(uid))
	return ("veth" + hex.EncodeToString(sum[:]))[:unix.IFNAMSIZ-1]
}

// macOf makes a locally administered unicast address of an IP address.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}

func variable(environ []string, name string) string {
	for _, v := range slices.Backward(environ) { // the last one counts
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
