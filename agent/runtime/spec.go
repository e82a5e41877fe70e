package runtime

import (
	"maps"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/image"
	"coracle/agent/pod"
	"coracle/internal/fault"
)

// specVersion is the newest that crun 1.8 reads, and every runtime since.
const specVersion = "1.0.2"

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// groupAnnotation makes containerd's shims serve several containers.
const groupAnnotation = "io.containerd.runc.v2.group"

// specInput is all that an OCI spec is computed from; buildSpec reads nothing else.
type specInput struct {
	ID        string
	Container pod.ContainerSpec
	Image     image.Image
	User      user
	Paths     namespacePaths
	Shm       string // host directory for /dev/shm
	Target    string // process namespace of the container that an ephemeral one looks at; empty: none
	Group     string // shim group
	Base      uint32 // the machine's id of the pod's root; 0: the pod has the machine's users
	Host      hostFacts
	// Devices are the nodes of the container's own devices, and DeviceRules what it may do with them.
	Devices     []specs.LinuxDevice
	DeviceRules []specs.LinuxDeviceCgroup
	AppArmor    string // profile; empty: none
	SELinux     labels
	// Seccomp is the profile of a Localhost type, read and parsed; nil otherwise.
	Seccomp *specs.LinuxSeccomp
	// SeccompDefault applies the default profile where none is named.
	SeccompDefault bool
}

// namespacePaths are the pinned namespaces to join; empty is the host's own.
type namespacePaths struct{ Net, IPC, UTS, PID, User string }

// user is who the first process is.
type user struct {
	UID, GID uint32
	Groups   []uint32
}

// buildSpec computes the OCI runtime spec of a container. PURE. Errors are of class Invalid.
func buildSpec(in specInput) (*specs.Spec, error) {
	args, err := processArgs(in.Container, in.Image)
	if err != nil {
		return nil, err
	}
	c, privileged := in.Container, isPrivileged(in.Container)
	spec := &specs.Spec{
		Version: specVersion,
		Root:    &specs.Root{Path: "rootfs", Readonly: isTrue(c.Security.ReadOnlyRootFilesystem)},
		Process: &specs.Process{
			Terminal:        c.TTY,
			Args:            args,
			Env:             processEnv(c, in.Image),
			Cwd:             workingDir(c, in.Image),
			User:            specs.User{UID: in.User.UID, GID: in.User.GID, AdditionalGids: in.User.Groups},
			NoNewPrivileges: noNewPrivileges(c),
			OOMScoreAdj:     clampOOM(c.OOMScoreAdj, in.Host.OOMFloor),
		},
		Annotations: annotations(in),
		Linux: &specs.Linux{
			Namespaces:  namespaceList(in),
			CgroupsPath: cgroupsPath(c.CgroupParent, in.ID),
			Resources:   resources(c, in.Host),
			UIDMappings: idMappings(in.Base),
			GIDMappings: idMappings(in.Base),
		},
	}
	unboundTasks(spec)
	if spec.Process.Capabilities, err = capabilities(c.Security, privileged, in.Host.Capabilities); err != nil {
		return nil, err
	}
	mounts, propagation, err := mountList(in, privileged)
	if err != nil {
		return nil, err
	}
	spec.Mounts = mounts
	spec.Process.SelinuxLabel, spec.Linux.MountLabel = in.SELinux.process, in.SELinux.file
	spec.Linux.RootfsPropagation = propagation
	if privileged {
		spec.Linux.Devices = addDevices(in.Host.Devices, in.Devices)
		spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	} else {
		spec.Linux.Devices = in.Devices
		spec.Linux.Resources.Devices = append([]specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, in.DeviceRules...)
		if c.Security.ProcMount == nil || *c.Security.ProcMount != v1.UnmaskedProcMount {
			spec.Linux.MaskedPaths = slices.Clone(maskedPaths)
			spec.Linux.ReadonlyPaths = slices.Clone(readonlyPaths)
		}
	}
	if err := confine(spec, in, privileged); err != nil {
		return nil, err
	}
	return spec, nil
}

// annotations are the container's own, under those that the agent and containerd go by.
func annotations(in specInput) map[string]string {
	out := map[string]string{}
	maps.Copy(out, in.Container.Annotations)
	maps.Copy(out, map[string]string{
		groupAnnotation:         in.Group,
		"coracle.pod.namespace": in.Container.PodNamespace,
		"coracle.pod.name":      in.Container.PodName,
		"coracle.container":     in.Container.Name,
	})
	return out
}

// processArgs is Kubernetes' rule: a command replaces the image's entrypoint and cmd, arguments
// alone replace the cmd.
func processArgs(c pod.ContainerSpec, img image.Image) ([]string, error) {
	var args []string
	switch {
	case len(c.Command) > 0:
		args = slices.Concat(c.Command, c.Args)
	case len(c.Args) > 0:
		args = slices.Concat(img.Entrypoint, c.Args)
	default:
		args = slices.Concat(img.Entrypoint, img.Cmd)
	}
	if len(args) == 0 {
		return nil, fault.Invalid("no command specified: neither the container nor image " + c.Image + " names one")
	}
	return args, nil
}

// processEnv lays the container's environment over the image's.
func processEnv(c pod.ContainerSpec, img image.Image) []string {
	env := []string{defaultPath}
	if c.Hostname != "" {
		env = append(env, "HOSTNAME="+c.Hostname)
	}
	if c.TTY {
		env = append(env, "TERM=xterm")
	}
	at := map[string]int{}
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		at[name] = i
	}
	put := func(name, entry string) {
		if i, ok := at[name]; ok {
			env[i] = entry
			return
		}
		at[name] = len(env)
		env = append(env, entry)
	}
	for _, e := range img.Env {
		name, _, _ := strings.Cut(e, "=")
		put(name, e)
	}
	for _, e := range c.Env {
		put(e.Name, e.Name+"="+e.Value)
	}
	return env
}

func workingDir(c pod.ContainerSpec, img image.Image) string {
	for _, dir := range []string{c.WorkingDir, img.WorkingDir} {
		if dir != "" {
			return path.Join("/", dir)
		}
	}
	return "/"
}

func namespaceList(in specInput) []specs.LinuxNamespace {
	c := in.Container
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	join := func(kind specs.LinuxNamespaceType, path string) {
		if path != "" {
			list = append(list, specs.LinuxNamespace{Type: kind, Path: path})
		}
	}
	join(specs.UserNamespace, in.Paths.User)
	join(specs.NetworkNamespace, in.Paths.Net)
	join(specs.IPCNamespace, in.Paths.IPC)
	join(specs.UTSNamespace, in.Paths.UTS)
	switch {
	case in.Target != "":
		join(specs.PIDNamespace, in.Target)
	case c.HostPID:
	case in.Paths.PID != "":
		join(specs.PIDNamespace, in.Paths.PID)
	default:
		list = append(list, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if in.Host.Unified && !isPrivileged(c) {
		list = append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return list
}

// cgroupsPath is where the OCI runtime makes the container's group: below a path, or for a
// systemd slice in the form "slice:prefix:name".
func cgroupsPath(parent, id string) string {
	if strings.HasSuffix(parent, ".slice") {
		return parent + ":coracle:" + id
	}
	return path.Join("/", parent, id)
}

func isTrue(b *bool) bool { return b != nil && *b }

func isPrivileged(c pod.ContainerSpec) bool {
	return c.Security != nil && isTrue(c.Security.Privileged)
}

// clampOOM keeps within what this process is allowed to set (proc_pid_oom_score_adj(5)).
func clampOOM(want, floor int) *int {
	score := min(max(want, floor, -1000), 1000)
	return &score
}

// mountList gives the mounts in the order in which they must be made, and the propagation that
// the root needs for them.
func mountList(in specInput, privileged bool) ([]specs.Mount, string, error) {
	c := in.Container
	taken := map[string]bool{}
	var own []specs.Mount
	propagation := ""
	for _, m := range c.Mounts {
		if !path.IsAbs(m.HostPath) || m.ContainerPath == "" {
			return nil, "", fault.Invalid("mount " + m.HostPath + " at " + m.ContainerPath + ": both paths must be absolute")
		}
		mount, needs := bindMount(m)
		own = append(own, mount)
		taken[mount.Destination] = true
		if needs == "rshared" || propagation == "" {
			propagation = needs
		}
	}
	if c.TerminationMessagePath != "" && c.TerminationMessageHostPath != "" && !taken[path.Clean(c.TerminationMessagePath)] {
		own = append(own, specs.Mount{
			Destination: path.Clean(c.TerminationMessagePath), Type: "bind", Source: c.TerminationMessageHostPath,
			Options: []string{"rbind", "rprivate", "rw"},
		})
	}
	var all []specs.Mount
	for _, m := range systemMounts(in, privileged) {
		if !taken[m.Destination] {
			all = append(all, m)
		}
	}
	// Parents before children; the order among equals is the pod's.
	sort.SliceStable(own, func(i, j int) bool { return depth(own[i].Destination) < depth(own[j].Destination) })
	return append(all, own...), propagation, nil
}

func depth(p string) int {
	if p == "/" {
		return 0
	}
	return strings.Count(p, "/")
}

func bindMount(m pod.Mount) (specs.Mount, string) {
	options, needs := []string{"rbind"}, ""
	switch m.Propagation {
	case v1.MountPropagationBidirectional:
		options, needs = append(options, "rshared"), "rshared"
	case v1.MountPropagationHostToContainer:
		options, needs = append(options, "rslave"), "rslave"
	default:
		options = append(options, "rprivate")
	}
	switch {
	case m.ReadOnly && m.RecursiveReadOnly:
		options = append(options, "ro", "rro")
	case m.ReadOnly:
		options = append(options, "ro")
	default:
		options = append(options, "rw")
	}
	return specs.Mount{Destination: path.Join("/", m.ContainerPath), Type: "bind", Source: m.HostPath, Options: options}, needs
}

func systemMounts(in specInput, privileged bool) []specs.Mount {
	access := "ro"
	if privileged {
		access = "rw"
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", access}},
	}
	if in.Shm != "" {
		mounts = append(mounts, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: in.Shm, Options: []string{"rbind", "rprivate", "rw"}})
	}
	return mounts
}
