package pod

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Sources is all that the definition of a container can refer to beyond its own pod.
type Sources struct {
	ConfigMap func(namespace, name string) (*v1.ConfigMap, bool)
	Secret    func(namespace, name string) (*v1.Secret, bool)
	// Services of the pod's namespace and default/kubernetes; others are ignored.
	Services []*v1.Service

	ImageUser string            // of the image's configuration: "", "1000", "app", "1000:1000"
	Volumes   map[string]string // volume name → host path
	// EnvFile reads a file below a volume's host path; fs.ErrNotExist where there is none. Nil: nothing can be read.
	EnvFile func(volumePath, path string) ([]byte, error)

	// Host paths of the node's own files for this pod; empty: not mounted.
	Hosts, ResolvConf, HostnameFile string
	TerminationLog                  string // of this attempt

	NodeName      string
	ClusterDomain string
	PodIPs        []string // primary first; the node's for hostNetwork
	HostIPs       []string
	Allocatable   v1.ResourceList // of the node: what limits default to in resourceFieldRef
	MemoryBytes   int64           // of the machine, for the OOM score
	Memory        MemoryPolicy

	CgroupParent string
	LogPath      string

	// RecursiveReadOnly says that the node can make mounts read-only with all that is mounted below.
	RecursiveReadOnly bool
}

// ConfigError says that the definition of a container cannot be resolved at present. Its
// message is what CreateContainerConfigError shows.
type ConfigError struct{ Message string }

func (e *ConfigError) Error() string { return e.Message }

func configErrorf(format string, args ...any) error {
	return &ConfigError{Message: fmt.Sprintf(format, args...)}
}

// systemCriticalPriority is where priorities of system-cluster-critical begin.
const systemCriticalPriority = 2000000000

// ResolveContainer turns one container of a pod into what the runtime needs. Every error is a *ConfigError.
func ResolveContainer(pod *v1.Pod, c *v1.Container, kind Kind, attempt int, src Sources) (ContainerSpec, error) {
	hostname, _, err := Hostname(pod, src.NodeName, src.ClusterDomain)
	if err != nil {
		return ContainerSpec{}, err
	}
	security := mergeSecurity(pod.Spec.SecurityContext, c.SecurityContext)
	if err := checkNonRoot(pod, c, security, src.ImageUser); err != nil {
		return ContainerSpec{}, err
	}
	env, err := resolveEnv(pod, c, src)
	if err != nil {
		return ContainerSpec{}, err
	}
	lookup := env.lookup()
	mounts, err := resolveMounts(pod, c, lookup, src)
	if err != nil {
		return ContainerSpec{}, err
	}
	spec := ContainerSpec{
		PodUID: pod.UID, PodNamespace: pod.Namespace, PodName: pod.Name,
		Name: c.Name, Kind: kind, Attempt: attempt, Fingerprint: Fingerprint(c),
		Image: c.Image, Command: expandAll(c.Command, lookup), Args: expandAll(c.Args, lookup),
		WorkingDir: c.WorkingDir, Env: env.list(), Mounts: mounts,
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY,
		Resources: c.Resources, OOMScoreAdj: OOMScoreAdj(pod, c, src.MemoryBytes), CgroupParent: src.CgroupParent,
		Security: security, PodSecurity: pod.Spec.SecurityContext,
		Hostname:    hostname,
		HostNetwork: pod.Spec.HostNetwork, HostPID: pod.Spec.HostPID, HostIPC: pod.Spec.HostIPC,
		ShareProcessNamespace: pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace,
		SystemCritical:        pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCriticalPriority,
		LogPath:               src.LogPath,
		TargetContainer:       targetOf(pod, c.Name, kind),
	}
	if src.TerminationLog != "" {
		spec.TerminationMessageHostPath = src.TerminationLog
		spec.TerminationMessagePath = c.TerminationMessagePath
		if spec.TerminationMessagePath == "" {
			spec.TerminationMessagePath = v1.TerminationMessagePathDefault
		}
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		spec.StopSignal = string(*c.Lifecycle.StopSignal)
	}
	src.Memory.applyMemory(&spec, pod, src)
	return spec, nil
}

// ResolveResources is the part of a ContainerSpec that may change while the container runs.
func ResolveResources(pod *v1.Pod, c *v1.Container, src Sources) ContainerSpec {
	spec := ContainerSpec{
		Name: c.Name, Resources: c.Resources,
		SystemCritical: pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCriticalPriority,
	}
	src.Memory.applyMemory(&spec, pod, src)
	return spec
}

// targetOf is the container whose processes an ephemeral container is to see; empty: none.
func targetOf(pod *v1.Pod, name string, kind Kind) string {
	if kind != Ephemeral {
		return ""
	}
	for i := range pod.Spec.EphemeralContainers {
		if e := &pod.Spec.EphemeralContainers[i]; e.Name == name {
			return e.TargetContainerName
		}
	}
	return ""
}

// AsksRecursiveReadOnly says whether a container of the pod asks for a recursive read-only mount.
func AsksRecursiveReadOnly(pod *v1.Pod) bool {
	asks := func(mounts []v1.VolumeMount) bool {
		return slices.ContainsFunc(mounts, func(m v1.VolumeMount) bool {
			return m.RecursiveReadOnly != nil && *m.RecursiveReadOnly != v1.RecursiveReadOnlyDisabled
		})
	}
	containers := func(c v1.Container) bool { return asks(c.VolumeMounts) }
	return slices.ContainsFunc(pod.Spec.InitContainers, containers) || slices.ContainsFunc(pod.Spec.Containers, containers) ||
		slices.ContainsFunc(pod.Spec.EphemeralContainers, func(e v1.EphemeralContainer) bool { return asks(e.VolumeMounts) })
}

// FindContainer finds a container of the pod by name, and its kind.
func FindContainer(pod *v1.Pod, name string) (*v1.Container, Kind, bool) {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == name {
			return c, KindOf(c), true
		}
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == name {
			return c, Main, true
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		if e := &pod.Spec.EphemeralContainers[i]; e.Name == name {
			c := v1.Container(e.EphemeralContainerCommon)
			return &c, Ephemeral, true
		}
	}
	return nil, "", false
}

// hostnameMax and fqdnMax are the kernel's and DNS' limits.
const (
	hostnameMax = 63
	fqdnMax     = 64
)

// Hostname is what the pod calls itself, and its domain where spec.subdomain gives it one.
func Hostname(pod *v1.Pod, nodeName, clusterDomain string) (name, domain string, err error) {
	if o := pod.Spec.HostnameOverride; o != nil && *o != "" {
		return *o, "", nil
	}
	if pod.Spec.HostNetwork {
		return nodeName, "", nil
	}
	name = pod.Spec.Hostname
	if name == "" {
		name = pod.Name
		if len(name) > hostnameMax {
			name = strings.TrimRight(name[:hostnameMax], "-.")
		}
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, clusterDomain)
	}
	if fq := pod.Spec.SetHostnameAsFQDN; fq != nil && *fq && domain != "" {
		full := name + "." + domain
		if len(full) > fqdnMax {
			return "", "", configErrorf("Failed to construct FQDN from Pod hostname and cluster domain, FQDN %s is too long (%d characters is the max, %d characters requested)", full, fqdnMax, len(full))
		}
		name = full
	}
	return name, domain, nil
}

// resolveMounts lists the container's volumes and the node's own files for it.
func resolveMounts(pod *v1.Pod, c *v1.Container, lookup func(string) (string, bool), src Sources) ([]Mount, error) {
	var out []Mount
	taken := map[string]bool{}
	for _, vm := range c.VolumeMounts {
		host, ok := src.Volumes[vm.Name]
		if !ok {
			return nil, configErrorf("cannot find volume %q to mount into container %q", vm.Name, c.Name)
		}
		sub, err := subPath(vm, lookup)
		if err != nil {
			return nil, err
		}
		m := Mount{
			Volume: vm.Name, HostPath: host, SubPath: sub, ContainerPath: vm.MountPath,
			NodeWrites: written(pod, vm.Name), OfMachine: ofMachine(pod, vm.Name),
		}
		m.OfImage = imageVolume(pod, vm.Name) != nil
		m.ReadOnly = vm.ReadOnly || m.NodeWrites || m.OfImage
		if m.RecursiveReadOnly, err = recursiveReadOnly(vm, src.RecursiveReadOnly); err != nil {
			return nil, err
		}
		if !filepath.IsAbs(m.ContainerPath) {
			m.ContainerPath = filepath.Join("/", m.ContainerPath)
		}
		if vm.MountPropagation != nil {
			m.Propagation = *vm.MountPropagation
		}
		taken[filepath.Clean(m.ContainerPath)] = true
		out = append(out, m)
	}
	for _, f := range []struct{ host, path string }{
		{src.Hosts, "/etc/hosts"}, {src.ResolvConf, "/etc/resolv.conf"}, {src.HostnameFile, "/etc/hostname"},
	} {
		if f.host != "" && !taken[f.path] {
			out = append(out, Mount{HostPath: f.host, ContainerPath: f.path})
		}
	}
	return out, nil
}

func ofMachine(pod *v1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return v.Name == name && v.HostPath != nil })
}

// written says that the node writes the volume's content, so that containers only read it.
func written(pod *v1.Pod, name string) bool {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == name {
			return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
		}
	}
	return false
}

// recursiveReadOnly says whether what is mounted inside the volume is read-only too.
func recursiveReadOnly(vm v1.VolumeMount, supported bool) (bool, error) {
	if !vm.ReadOnly || vm.RecursiveReadOnly == nil {
		return false, nil
	}
	switch *vm.RecursiveReadOnly {
	case v1.RecursiveReadOnlyEnabled:
		if !supported {
			return false, configErrorf("volume %q requested recursive read-only mode, but it is not supported by the runtime", vm.Name)
		}
		return true, nil
	case v1.RecursiveReadOnlyIfPossible:
		return supported, nil
	}
	return false, nil
}

// subPath expands subPathExpr and refuses what would leave the volume.
func subPath(vm v1.VolumeMount, lookup func(string) (string, bool)) (string, error) {
	sub := vm.SubPath
	if vm.SubPathExpr != "" {
		var missing []string
		sub = Expand(vm.SubPathExpr, func(name string) (string, bool) {
			v, _ := lookup(name)
			if v == "" && !slices.Contains(missing, name) { // empty counts as missing: it would show the whole volume
				missing = append(missing, name)
			}
			return v, true
		})
		if len(missing) > 0 {
			slices.Sort(missing)
			return "", configErrorf("subPathExpr %q of volume %q: missing value for %s", vm.SubPathExpr, vm.Name, strings.Join(missing, ", "))
		}
	}
	if sub == "" {
		return "", nil
	}
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", configErrorf("subPath %q of volume %q must be relative and must not contain '..'", sub, vm.Name)
	}
	return filepath.Clean(sub), nil
}

// mergeSecurity lays the container's security context over the pod's. The result is the caller's and never nil.
func mergeSecurity(pod *v1.PodSecurityContext, c *v1.SecurityContext) *v1.SecurityContext {
	out := &v1.SecurityContext{}
	if c != nil {
		out = c.DeepCopy()
	}
	if pod == nil {
		return out
	}
	pod = pod.DeepCopy()
	if out.SELinuxOptions == nil {
		out.SELinuxOptions = pod.SELinuxOptions
	}
	if out.RunAsUser == nil {
		out.RunAsUser = pod.RunAsUser
	}
	if out.RunAsGroup == nil {
		out.RunAsGroup = pod.RunAsGroup
	}
	if out.RunAsNonRoot == nil {
		out.RunAsNonRoot = pod.RunAsNonRoot
	}
	if out.SeccompProfile == nil {
		out.SeccompProfile = pod.SeccompProfile
	}
	if out.AppArmorProfile == nil {
		out.AppArmorProfile = pod.AppArmorProfile
	}
	return out
}
