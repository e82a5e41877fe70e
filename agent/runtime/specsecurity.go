package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// defaultCapabilities is what Kubernetes' runtimes give a container that asks for nothing.
var defaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// maskedPaths and readonlyPaths keep a container from the parts of proc and sys that are the host's.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// capabilities computes the sets. ALL is what the host itself can give. Inheritable and ambient
// stay empty, so a first process that is not root has none until it executes a file that grants them.
func capabilities(sc *v1.SecurityContext, privileged bool, available []string) (*specs.LinuxCapabilities, error) {
	have := map[string]bool{}
	grant := func(names []string) {
		for _, n := range names {
			have[n] = true
		}
	}
	if privileged {
		grant(available)
	} else {
		for _, n := range defaultCapabilities {
			if slices.Contains(available, n) {
				have[n] = true
			}
		}
		if c := sc.Capabilities; c != nil {
			add, addAll := capabilityNames(c.Add)
			drop, dropAll := capabilityNames(c.Drop)
			if addAll {
				grant(available)
			}
			if dropAll {
				clear(have)
			}
			for _, n := range add {
				if !slices.Contains(available, n) {
					return nil, fault.Invalid("capability " + n + " cannot be added: this node does not have it")
				}
				have[n] = true
			}
			for _, n := range drop {
				delete(have, n)
			}
		}
	}
	list := make([]string, 0, len(have))
	for n := range have {
		list = append(list, n)
	}
	slices.Sort(list)
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}, nil
}

func capabilityNames(list []v1.Capability) (names []string, all bool) {
	for _, c := range list {
		n := strings.ToUpper(string(c))
		if n == "ALL" || n == "CAP_ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		names = append(names, n)
	}
	return names, all
}

func noNewPrivileges(c pod.ContainerSpec) bool {
	allow := c.Security.AllowPrivilegeEscalation
	return allow != nil && !*allow && !isPrivileged(c)
}

// confine adds seccomp and AppArmor. Privileged containers have neither.
func confine(spec *specs.Spec, in specInput, privileged bool) error {
	if privileged {
		return nil
	}
	sc := in.Container.Security
	switch profile := sc.SeccompProfile; {
	case profile == nil:
		if in.SeccompDefault {
			spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
		}
	case profile.Type == v1.SeccompProfileTypeRuntimeDefault:
		spec.Linux.Seccomp = seccomp.DefaultProfile(spec)
	case profile.Type == v1.SeccompProfileTypeLocalhost:
		if in.Seccomp == nil {
			return fault.Invalid("seccomp profile of type Localhost was not loaded")
		}
		spec.Linux.Seccomp = in.Seccomp
	}
	if spec.Linux.Seccomp != nil && !in.Host.Seccomp {
		return fault.Invalid("a seccomp profile is asked for, but this kernel has no seccomp filters")
	}
	spec.Process.ApparmorProfile = in.AppArmor
	return nil
}

// localhostSeccomp reads the profile that a container names, from below dir.
func localhostSeccomp(dir string, sc *v1.SecurityContext) (*specs.LinuxSeccomp, error) {
	if sc.SeccompProfile == nil || sc.SeccompProfile.Type != v1.SeccompProfileTypeLocalhost || isTrue(sc.Privileged) {
		return nil, nil
	}
	name := ""
	if sc.SeccompProfile.LocalhostProfile != nil {
		name = *sc.SeccompProfile.LocalhostProfile
	}
	if !filepath.IsLocal(name) {
		return nil, fault.Invalid(fmt.Sprintf("seccomp profile %q: a path below %s is wanted", name, dir))
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fault.As(fault.ErrInvalid, fmt.Errorf("read seccomp profile: %w", err))
	}
	return parseSeccomp(data)
}

func parseSeccomp(data []byte) (*specs.LinuxSeccomp, error) {
	profile := &specs.LinuxSeccomp{}
	if err := json.Unmarshal(data, profile); err != nil {
		return nil, fault.As(fault.ErrInvalid, fmt.Errorf("parse seccomp profile: %w", err))
	}
	if profile.DefaultAction == "" {
		return nil, fault.Invalid("parse seccomp profile: defaultAction is missing")
	}
	return profile, nil
}
