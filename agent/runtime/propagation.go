package runtime

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// checkPropagation refuses mounts that are to pass mounts on and cannot: the kernel would make
// them in silence, and they would show nothing.
func checkPropagation(mounts []pod.Mount) error {
	for _, m := range mounts {
		if m.Propagation != v1.MountPropagationBidirectional && m.Propagation != v1.MountPropagationHostToContainer {
			continue
		}
		path, err := filepath.EvalSymlinks(m.HostPath)
		if err != nil {
			return fmt.Errorf("find the mount of volume %q: %w", m.Volume, err)
		}
		infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
		if err != nil {
			return fmt.Errorf("find the mount of volume %q: %w", m.Volume, err)
		}
		if err := passesOn(m.Propagation, path, infos); err != nil {
			return err
		}
	}
	return nil
}

// passesOn judges the mount that a path is on, from those of it and its parents.
func passesOn(mode v1.MountPropagationMode, path string, infos []*mountinfo.Info) error {
	var on *mountinfo.Info
	for _, i := range infos {
		if on == nil || len(i.Mountpoint) >= len(on.Mountpoint) { // of several at one place the last is seen
			on = i
		}
	}
	if on == nil {
		return fmt.Errorf("no mount holds %q", path)
	}
	shared, slave := false, false
	for _, field := range strings.Fields(on.Optional) {
		shared = shared || strings.HasPrefix(field, "shared:")
		slave = slave || strings.HasPrefix(field, "master:")
	}
	switch {
	case mode == v1.MountPropagationBidirectional && !shared:
		return fault.Invalid(fmt.Sprintf("path %q is mounted on %q but it is not a shared mount (mount --make-rshared %s)", path, on.Mountpoint, on.Mountpoint))
	case !shared && !slave:
		return fault.Invalid(fmt.Sprintf("path %q is mounted on %q but it is not a shared or slave mount (mount --make-rshared %s)", path, on.Mountpoint, on.Mountpoint))
	}
	return nil
}
