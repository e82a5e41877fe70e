package pod

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Kind says which list of the pod spec a container comes from.
type Kind string

// The kinds of container. An init container with restartPolicy Always is a Sidecar.
const (
	Init    Kind = "init"
	Sidecar Kind = "sidecar"
	Main    Kind = "main"
)

// State is where one attempt of a container stands. States are ordered: an observed container never goes back.
type State int

// Created → Running → Exited.
const (
	Created State = iota // made in containerd, its first process not started
	Running
	Exited
)

// Observed is what the node holds of one pod, read from containerd, the kernel and the
// mounts, never remembered. The zero value is a pod of which nothing exists.
type Observed struct {
	UID        types.UID
	Namespace  string // from labels, so that a pod nobody assigned can still be named
	Name       string
	Sandbox    *Sandbox    // nil: no namespaces are pinned
	Containers []Container // every attempt that still exists, any order
	// Volumes is true while anything of the pod's volumes is mounted or on disk.
	Volumes bool
	// Cgroup is true while the pod's own cgroup exists.
	Cgroup bool
}

// Sandbox is a pod's pinned namespaces and its network attachment.
type Sandbox struct {
	CreatedAt time.Time
	NetnsPath string   // empty for hostNetwork
	Attached  bool     // CNI ADD has succeeded (always true for hostNetwork)
	IPs       []string // as CNI gave them, primary first; empty for hostNetwork
}

// Container is one attempt of one container.
type Container struct {
	ID          string // in containerd, without scheme
	Name        string
	Kind        Kind
	Attempt     int    // 0 for the first
	Fingerprint string // of the fields that, when changed, require a new container
	Image       string // reference it was created from
	ImageID     string // "REPO@sha256:…" as kubectl shows it
	State       State
	PID         int
	CreatedAt   time.Time
	StartedAt   time.Time
	FinishedAt  time.Time
	ExitCode    int
	Signal      int    // 0: none
	OOMKilled   bool
	// Reason and Message are set where the container never ran (Reason StartError,
	// ContainerCannotRun …), or Message holds the termination message.
	Reason  string
	Message string
}
