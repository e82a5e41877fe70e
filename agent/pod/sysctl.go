package pod

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// safeSysctls are those that Kubernetes lets every pod set: each belongs to a namespace of the pod and harms no other.
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_wmem",
}

// checkSysctls turns away pods that set what is neither safe nor allowed on this node.
func checkSysctls(p *v1.Pod, unsafe []string) *Rejection {
	if p.Spec.SecurityContext == nil {
		return nil
	}
	forbid := func(format string, args ...any) *Rejection {
		return &Rejection{Reason: "SysctlForbidden", Message: "forbidden sysctl: " + fmt.Sprintf(format, args...)}
	}
	for _, s := range p.Spec.SecurityContext.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		if !slices.Contains(safeSysctls, name) && !slices.ContainsFunc(unsafe, func(pattern string) bool { return matchesSysctl(pattern, name) }) {
			return forbid("%q not allowlisted", s.Name)
		}
		switch {
		case p.Spec.HostNetwork && strings.HasPrefix(name, "net."):
			return forbid("%q not allowed with host net enabled", s.Name)
		case p.Spec.HostIPC && (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")):
			return forbid("%q not allowed with host ipc enabled", s.Name)
		}
	}
	return nil
}

func matchesSysctl(pattern, name string) bool {
	pattern = strings.ReplaceAll(pattern, "/", ".")
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}
