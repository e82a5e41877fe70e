package check

import (
	"context"
	"os"
	"strings"

	"coracle/agent/config"
	containers "coracle/agent/runtime"
)

// confinement is what keeps containers from the machine beyond namespaces; pods that ask for what is missing are refused.
func confinement(context.Context, config.Config) Finding {
	const name = "confinement"
	var have []string
	if _, err := os.Stat("/proc/sys/kernel/seccomp/actions_avail"); err != nil {
		return warn(name, "the kernel has no seccomp filters; pods that ask for a profile are refused", "use a kernel with CONFIG_SECCOMP_FILTER")
	}
	have = append(have, "seccomp")
	switch can, parser := containers.AppArmor(); {
	case can && !parser:
		return warn(name, "AppArmor is enabled, and nothing can load a profile for containers", "apt-get install apparmor (apparmor_parser)")
	case can:
		have = append(have, "AppArmor")
	}
	if err := containers.UserNamespaceObstacle(); err != nil {
		return warn(name, strings.Join(have, ", ")+"; pods with hostUsers: false are refused: "+err.Error(),
			"sysctl -w user.max_user_namespaces=65536, and a file in /etc/sysctl.d that says so; or boot a kernel with CONFIG_USER_NS, 5.12 or later")
	}
	return ok(name, "%s", strings.Join(append(have, "users of a pod's own"), ", "))
}
