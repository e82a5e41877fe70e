package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Kind says which list of the pod spec a container comes from.
type Kind string

// The kinds of container. An init container with restartPolicy Always is a Sidecar.
const (
	Init      Kind = "init"
	Sidecar   Kind = "sidecar"
	Main      Kind = "main"
	Ephemeral Kind = "ephemeral" // kubectl debug: started once, never restarted
)

// State is where one attempt of a container stands. States are ordered: an observed container never goes back.
type State int

// Created → Running → Exited.
const (
	Created State = iota // made in containerd, its first process not started
	Running
	Exited
)

// Observed is what the node holds of one pod. What can be read from containerd, the kernel
// and the mounts is read, never remembered. The zero value is a pod of which nothing exists.
//
// agent/runtime fills UID, Namespace, Name, Sandbox and Containers; agent/podrun adds the
// rest from the other doors, from the store (Facts) and from this run's own work (Images,
// Troubles, VolumesReady, CgroupReady, Container.Live), whose loss at a restart of the agent does no harm.
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
	// Loosened and Settled are the generations of the resize for which this run of the agent has set the pod's cgroup.
	Loosened, Settled int64
	// ResizeError is why the last step of a resize did not succeed.
	ResizeError string
	// Network is true while CNI holds, or may hold, anything of the pod, even if its namespace is gone.
	Network bool

	// VolumesReady and CgroupReady say that this run of the agent has made sure of them, so
	// that containers may be created.
	VolumesReady, CgroupReady bool
	// Images is what is known of each container's image, by container name.
	Images map[string]Image
	// VolumeImages is what is known of the images that are volumes, by volume name; Attempt is always 0.
	VolumeImages map[string]Image
	// Troubles is why the latest attempt to make or start a container did not work, by container name.
	Troubles map[string]Trouble
	// RecursiveReadOnly says that mounts are read-only with all below where a container asks for that "if possible".
	RecursiveReadOnly bool
	// Facts is what Plan asked to be remembered last; zero for a new pod.
	Facts Facts
}

// ImageState is where an image stands for one attempt of a container.
type ImageState int

// The states of an image.
const (
	ImageUnknown ImageState = iota
	ImagePulling
	ImagePresent
	ImageFailed
)

// Image is what this run of the agent knows of the image that one attempt needs.
type Image struct {
	Ref     string
	Attempt int // of the container it was looked for
	State   ImageState
	ImageID string // "REPO@sha256:…", of a volume that is present
	// Where State is ImageFailed: how often in a row, when last, and the reason as kubectl shows
	// it (ErrImagePull, ErrImageNeverPull, InvalidImageName, RegistryUnavailable …).
	Failures int
	FailedAt time.Time
	Reason   string
	Message  string
}

// Trouble is why a container could not be created or started.
type Trouble struct {
	Attempt int
	Count   int // in a row
	At      time.Time
	Reason  string // CreateContainerConfigError, CreateContainerError, RunContainerError
	Message string
}

// Verdict is what a probe says at present.
type Verdict int

// Unknown until the first result of this run of the agent that passes a threshold.
const (
	Unknown Verdict = iota
	Success
	Failure
)

// HookState is where a lifecycle hook stands.
type HookState int

// The states of a hook.
const (
	HookIdle HookState = iota
	HookRunning
	HookDone
	HookFailed
)

// Live is what this run of the agent has learnt of, and done to, one attempt. The zero value
// is what a fresh agent knows.
type Live struct {
	Startup, Readiness, Liveness Verdict
	PostStart, PreStop           HookState
	TermAt, KillAt               time.Time // the stop signal, SIGKILL was sent; zero: not by this run
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
	// Resources are the CPU and memory that it was given last; nil where that was not noted.
	Resources   *v1.ResourceRequirements
	PID         int
	CreatedAt   time.Time
	StartedAt   time.Time
	FinishedAt  time.Time
	ExitCode    int
	Signal      int // 0: none
	OOMKilled   bool
	User        *v1.LinuxContainerUser // who the first process was started as; nil: not known
	EarlierBoot bool                   // made before the machine last booted, so it has ended
	// Reason and Message are set where the container never ran (Reason StartError,
	// ContainerCannotRun …), or Message holds the termination message.
	Reason  string
	Message string
	// Live is filled by agent/podrun.
	Live Live
}
