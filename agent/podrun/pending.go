package podrun

import (
	"io"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// SandboxSpec describes a pod's namespaces.
type SandboxSpec struct {
	UID                           types.UID
	Namespace, Name               string
	Hostname                      string
	HostNetwork, HostIPC, HostPID bool
	ShareProcessNamespace         bool
	Sysctls                       map[string]string
	CgroupParent                  string
}

// ExecSpec is one command to run in a container.
type ExecSpec struct {
	Command        []string
	TTY            bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Timeout        time.Duration
}
