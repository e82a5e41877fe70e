package integration

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// leftovers lists what the cluster still has on this machine on behalf of pods: containers, shims, mounts, links, cgroups.
func (c *cluster) leftovers() []string {
	var left []string
	if out, err := output(nil, "", "ctr", "--address", c.containerdSocket(), "--namespace", "coracle", "containers", "list", "--quiet"); err == nil {
		for id := range strings.FieldsSeq(out) {
			left = append(left, "container "+id)
		}
	}
	for pid, cmdline := range processes() {
		if strings.Contains(cmdline, "containerd-shim") && strings.Contains(cmdline, c.sockets) {
			left = append(left, fmt.Sprintf("shim %d: %s", pid, cmdline))
		}
	}
	for _, m := range append(mountsBelow(filepath.Join(c.sockets, "a")), mountsBelow(filepath.Join(c.dir, "kubelet"))...) {
		left = append(left, "mount "+m)
	}
	for _, m := range mountsBelow(filepath.Join(c.sockets, "c")) {
		left = append(left, "mount "+m)
	}
	left = append(left, c.veths()...)
	return append(left, c.cgroups()...)
}

// veths are the links enslaved to this cluster's bridge: one for each pod on the network.
func (c *cluster) veths() []string {
	var left []string
	entries, err := os.ReadDir("/sys/class/net/cor" + c.id + "/brif")
	if err != nil {
		return nil // no bridge, no veth
	}
	for _, e := range entries {
		left = append(left, "link "+e.Name())
	}
	return left
}

// cgroups are the groups of pods and containers below this cluster's root, in every hierarchy.
func (c *cluster) cgroups() []string {
	var left []string
	roots, err := filepath.Glob("/sys/fs/cgroup/*/coracle-it-" + c.id)
	if err != nil {
		return []string{err.Error()}
	}
	for _, root := range append(roots, "/sys/fs/cgroup/coracle-it-"+c.id) {
		_ = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Contains(filepath.Base(p), "pod") && !strings.HasPrefix(filepath.Base(p), "kubepods") {
				left = append(left, "cgroup "+p)
			}
			return nil // a group that vanished while we look is what we want
		})
	}
	return left
}

// ownTraces is what a node has on the machine beyond its pods, and what a reset must take away too.
func (c *cluster) ownTraces() []string {
	var left []string
	if _, err := os.Stat("/sys/class/net/cor" + c.id); err == nil {
		left = append(left, "bridge cor"+c.id)
	}
	if out, err := output(nil, "", "nft", "list", "tables"); err == nil && strings.Contains(out, c.id) {
		left = append(left, "one of the nft tables: "+out)
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/coracle-it-" + c.id)
	if err != nil {
		left = append(left, err.Error())
	}
	for _, g := range groups {
		left = append(left, "cgroup "+g)
	}
	return left
}

func mountsBelow(dir string) []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			found = append(found, fields[4])
		}
	}
	return found
}

// processes maps each process of this machine to its command line.
func processes() map[int]string {
	found := map[int]string{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")); err == nil {
			found[pid] = strings.ReplaceAll(string(b), "\x00", " ")
		}
	}
	return found
}

func have(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}
