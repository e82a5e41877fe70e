package runtime

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"coracle/agent/pod"
)

// givenDevices are the nodes to make in a container for the devices that it has been given, and the rules that let it use
// them. A folder stands for all devices below it, and a link for what it leads to, as containerd has it for Kubernetes.
func givenDevices(list []pod.Device) (nodes []specs.LinuxDevice, rules []specs.LinuxDeviceCgroup, err error) {
	for _, d := range list {
		found, err := devicesAt(d)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range found {
			major, minor := n.Major, n.Minor
			nodes = append(nodes, n)
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &major, Minor: &minor, Access: d.Permissions})
		}
	}
	return nodes, rules, nil
}

func devicesAt(d pod.Device) ([]specs.LinuxDevice, error) {
	host, err := filepath.EvalSymlinks(d.HostPath)
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", d.HostPath, err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(host, &st); err != nil {
		return nil, fmt.Errorf("find device %s: %w", d.HostPath, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK, unix.S_IFCHR:
		return []specs.LinuxDevice{deviceNode(path.Join("/", d.ContainerPath), st)}, nil
	case unix.S_IFDIR:
	default:
		return nil, fmt.Errorf("%s is no device and no folder of devices, and a container is to have it as %s", d.HostPath, d.ContainerPath)
	}
	below, err := hostDevices(host)
	if err != nil {
		return nil, err
	}
	for i := range below {
		below[i].Path = path.Join("/", d.ContainerPath, strings.TrimPrefix(below[i].Path, host))
	}
	return below, nil
}

// addDevices adds those whose place is free.
func addDevices(have, more []specs.LinuxDevice) []specs.LinuxDevice {
	out := slices.Clone(have)
	for _, d := range more {
		if !slices.ContainsFunc(out, func(o specs.LinuxDevice) bool { return o.Path == d.Path }) {
			out = append(out, d)
		}
	}
	return out
}
