package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// Own shapes the conflist that the agent writes when the folder holds no other.
type Own struct {
	File   string // name in ConfDir; empty: the agent writes none
	Bridge string
	MTU    int // 0: the plugin's choice
	// PluginMasquerade lets the bridge plugin masquerade each pod by itself. The agent's own
	// rule for the whole pod CIDR is far cheaper; this is for machines without nftables.
	PluginMasquerade bool
	PodCIDRs         []string
}

// NetworkName is that of the agent's own conflist.
const NetworkName = "coracle"

// SetOwn takes what is known now of the node's pod CIDRs, MTU and so on, and writes the conflist where
// the folder has no other. Pods that are attached keep what they have. Repeating it costs nothing.
func (c *CNI) SetOwn(own Own) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own = own
	if own.File == "" || len(own.PodCIDRs) == 0 {
		return nil
	}
	target := filepath.Join(c.cfg.ConfDir, own.File)
	first, _, err := firstConf(c.cfg.ConfDir)
	if err != nil {
		return err
	}
	if first != "" && first != target {
		return nil // the administrator's network wins
	}
	want, err := own.conflist(c.leaseDir())
	if err != nil {
		return err
	}
	have, err := os.ReadFile(target)
	if err == nil && string(have) == string(want) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", target, err)
	}
	if err := os.MkdirAll(c.cfg.ConfDir, 0o755); err != nil {
		return fmt.Errorf("make CNI configuration folder: %w", err)
	}
	if err := writeFile(target, want, 0o644); err != nil {
		return fmt.Errorf("write CNI configuration: %w", err)
	}
	c.cfg.Log.Info("wrote CNI configuration", "file", target, "podCIDRs", own.PodCIDRs)
	return nil
}

// RemoveOwn removes the conflist that SetOwn wrote.
func (c *CNI) RemoveOwn() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own.File == "" {
		return nil
	}
	err := os.Remove(filepath.Join(c.cfg.ConfDir, c.own.File))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove CNI configuration: %w", err)
	}
	return nil
}

// leaseDir is where host-local keeps which address is whose. It lies in RunDir and so is gone
// after a reboot like the namespaces that held the addresses; one power cut cannot leak one.
func (c *CNI) leaseDir() string { return filepath.Join(c.cfg.RunDir, "cni") }

type ownPlugin struct {
	Type             string          `json:"type"`
	Bridge           string          `json:"bridge,omitempty"`
	IsDefaultGateway bool            `json:"isDefaultGateway,omitempty"`
	ForceAddress     bool            `json:"forceAddress,omitempty"`
	IPMasq           bool            `json:"ipMasq,omitempty"`
	HairpinMode      bool            `json:"hairpinMode,omitempty"`
	MTU              int             `json:"mtu,omitempty"`
	IPAM             *ownIPAM        `json:"ipam,omitempty"`
	SNAT             *bool           `json:"snat,omitempty"`
	Capabilities     map[string]bool `json:"capabilities,omitempty"`
}

type ownIPAM struct {
	Type    string       `json:"type"`
	DataDir string       `json:"dataDir"`
	Ranges  [][]ownRange `json:"ranges"`
}

type ownRange struct {
	Subnet string `json:"subnet"`
}

// conflist is the file's content, the same bytes for the same settings.
//
// No loopback plugin: the agent brings lo up itself, which spares a process for each pod.
// Hairpin mode lets a pod reach itself through its own service or host port. cniVersion is the
// highest that the plugins of Debian 12 speak.
func (o Own) conflist(leases string) ([]byte, error) {
	ipam := &ownIPAM{Type: "host-local", DataDir: leases}
	cidrs := slices.Clone(o.PodCIDRs)
	for i, s := range cidrs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("pod CIDR %q: %w", s, err)
		}
		cidrs[i] = p.Masked().String()
		ipam.Ranges = append(ipam.Ranges, []ownRange{{Subnet: cidrs[i]}})
	}
	if len(cidrs) == 0 {
		return nil, errors.New("no pod CIDR")
	}
	snat := true
	list := struct {
		CNIVersion string      `json:"cniVersion"`
		Name       string      `json:"name"`
		Plugins    []ownPlugin `json:"plugins"`
	}{
		CNIVersion: "1.0.0",
		Name:       NetworkName,
		Plugins: []ownPlugin{
			{
				Type: "bridge", Bridge: o.Bridge, IsDefaultGateway: true, ForceAddress: true,
				IPMasq: o.PluginMasquerade, HairpinMode: true, MTU: o.MTU, IPAM: ipam,
			},
			{Type: "portmap", SNAT: &snat, Capabilities: map[string]bool{"portMappings": true}},
		},
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// writeFile replaces a file whole: readers see the old or the new one, also after a power cut.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, werr := tmp.Write(data)
	err = errors.Join(werr, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
