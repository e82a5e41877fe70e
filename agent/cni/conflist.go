package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/libcni"
)

// loaded is a parsed conflist and what its file looked like, so that an unchanged file is
// not parsed for each pod and a changed one is noticed at the next.
type loaded struct {
	path    string
	modTime time.Time
	size    int64
	list    *libcni.NetworkConfigList
}

// network gives the conflist in use: the lexically first in the folder that parses. One that
// does not parse is an error and not skipped, because attaching pods to another network
// than the administrator wrote down is worse than not attaching them.
func (c *CNI) network() (*libcni.NetworkConfigList, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path, info, err := firstConf(c.cfg.ConfDir)
	if err != nil {
		return nil, err
	}
	if path == "" {
		if c.own.File == "" {
			return nil, fmt.Errorf("%w: %s holds no conflist; put one there", ErrNotReady, c.cfg.ConfDir)
		}
		return nil, fmt.Errorf("%w: %s holds no conflist, and the node has no pod CIDR yet from which the agent could write one", ErrNotReady, c.cfg.ConfDir)
	}
	if c.conf.path == path && c.conf.size == info.Size() && c.conf.modTime.Equal(info.ModTime()) {
		return c.conf.list, nil
	}
	list, err := loadConf(path)
	if err != nil {
		return nil, fmt.Errorf("CNI configuration %s: %w", path, err)
	}
	c.conf = loaded{path: path, modTime: info.ModTime(), size: info.Size(), list: list}
	c.cfg.Log.Info("CNI network in use", "network", list.Name, "file", path)
	return list, nil
}

// Peek names the network that an agent with these folders would use and checks it, without
// making anything. ErrNotReady: there is no conflist.
func Peek(confDir string, binDirs []string) (string, error) {
	c := &CNI{cfg: Config{ConfDir: confDir, BinDirs: binDirs, Log: slog.New(slog.DiscardHandler)}}
	if err := c.Ready(); err != nil {
		return "", err
	}
	return c.Network(), nil
}

// firstConf finds the lexically first configuration; "" when there is none.
func firstConf(dir string) (string, fs.FileInfo, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("read CNI configuration: %w", err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{".conflist", ".conf", ".json"}, filepath.Ext(e.Name())) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // follows links, as configuration tools use them
		if err != nil || info.IsDir() {
			continue
		}
		return path, info, nil
	}
	return "", nil, nil
}

// loadConf parses a conflist, or a single plugin's configuration as a list of one.
func loadConf(path string) (*libcni.NetworkConfigList, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if filepath.Ext(path) != ".conflist" {
		if data, err = asList(data); err != nil {
			return nil, err
		}
	}
	list, err := parseList(data)
	if err != nil {
		return nil, err
	}
	if list.LoadOnlyInlinedPlugins {
		return list, nil
	}
	// CNI 1.1.0 lets a list name plugins by files in a folder of the network's name. They are
	// written into the list, so that a record of it is complete by itself.
	extra, err := libcni.NetworkPluginConfsFromFiles(filepath.Dir(path), list.Name)
	if err != nil {
		return nil, err
	}
	list.Plugins = append(list.Plugins, extra...)
	if len(list.Plugins) == 0 {
		return nil, errors.New("the list names no plugin")
	}
	if len(extra) > 0 {
		return inline(list)
	}
	return list, nil
}

// parseList parses a conflist and refuses what would only fail inside a plugin.
func parseList(data []byte) (*libcni.NetworkConfigList, error) {
	list, err := libcni.NetworkConfFromBytes(data)
	if err != nil {
		return nil, err
	}
	if list.Name == "" || list.Name == "." || list.Name == ".." || filepath.Base(list.Name) != list.Name {
		return nil, fmt.Errorf("%q is not a network name", list.Name)
	}
	return list, nil
}

// asList wraps a single plugin's configuration.
func asList(data []byte) ([]byte, error) {
	var head struct {
		Name       string `json:"name"`
		CNIVersion string `json:"cniVersion"`
		Type       string `json:"type"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	if head.Type == "" {
		return data, nil // a list in a file called .conf or .json
	}
	return json.Marshal(map[string]any{
		"name": head.Name, "cniVersion": head.CNIVersion, "plugins": []json.RawMessage{data},
	})
}

func inline(list *libcni.NetworkConfigList) (*libcni.NetworkConfigList, error) {
	plugins := make([]json.RawMessage, 0, len(list.Plugins))
	for _, p := range list.Plugins {
		plugins = append(plugins, p.Bytes)
	}
	data, err := json.Marshal(map[string]any{
		"name": list.Name, "cniVersion": list.CNIVersion, "disableCheck": list.DisableCheck,
		"disableGC": list.DisableGC, "loadOnlyInlinedPlugins": true, "plugins": plugins,
	})
	if err != nil {
		return nil, err
	}
	return parseList(data)
}

// needed leaves out the plugins that would only hand the result on: portmap without a host
// port and bandwidth without a limit. Each is a process, the dearest part of attaching a pod.
// The same filter runs for DEL, from the recorded arguments.
func needed(list *libcni.NetworkConfigList, capabilities map[string]any) *libcni.NetworkConfigList {
	out := *list
	out.Plugins = nil
	for _, p := range list.Plugins {
		if !idle(p, capabilities) {
			out.Plugins = append(out.Plugins, p)
		}
	}
	if len(out.Plugins) == 0 {
		return list
	}
	return &out
}

func idle(p *libcni.PluginConfig, capabilities map[string]any) bool {
	switch p.Network.Type {
	case "portmap":
		return p.Network.Capabilities["portMappings"] && capabilities["portMappings"] == nil
	case "bandwidth":
		var static struct {
			IngressRate *uint64 `json:"ingressRate"`
			EgressRate  *uint64 `json:"egressRate"`
		}
		if json.Unmarshal(p.Bytes, &static) != nil || static.IngressRate != nil || static.EgressRate != nil {
			return false
		}
		return p.Network.Capabilities["bandwidth"] && capabilities["bandwidth"] == nil
	}
	return false
}

// pluginBinaries names the programs that a plugin's configuration calls for.
func pluginBinaries(p *libcni.PluginConfig) []string {
	names := []string{p.Network.Type}
	if p.Network.IPAM.Type != "" {
		names = append(names, p.Network.IPAM.Type)
	}
	return names
}
