package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ContainerSpec is one container, fully resolved: what agent/runtime needs to create it
// beyond the image's own configuration. Nothing in it refers to other API objects.
type ContainerSpec struct {
	PodUID       types.UID
	PodNamespace string
	PodName      string
	Name         string
	Kind         Kind
	Attempt      int
	Fingerprint  string

	Image      string   // reference, present in containerd
	Command    []string // expanded; nil: the image's entrypoint
	Args       []string // expanded; nil: the image's cmd
	WorkingDir string   // empty: the image's
	Env        []EnvVar // expanded; laid over the image's
	Mounts     []Mount
	// Devices are those that the container sees beyond the usual ones.
	Devices []Device
	// Annotations go into the OCI spec.
	Annotations map[string]string

	Stdin, StdinOnce, TTY bool

	Resources v1.ResourceRequirements
	// SwapBytes may be swapped of the container's memory; 0: none.
	SwapBytes int64
	// MemoryMin and MemoryLow are not, or last, reclaimed; from MemoryHigh on the container is slowed down. Bytes; 0: none.
	MemoryMin, MemoryLow, MemoryHigh int64

	OOMScoreAdj  int
	CgroupParent string // as agent/cgroup gave it

	// Security is the container's security context with the pod's merged in; never nil.
	Security *v1.SecurityContext
	// PodSecurity is the pod's own (fsGroup, supplemental groups, sysctls); may be nil.
	PodSecurity *v1.PodSecurityContext

	Hostname                      string
	HostNetwork, HostPID, HostIPC bool
	ShareProcessNamespace         bool
	// TargetContainer is the running container whose process namespace is joined; empty: none.
	TargetContainer string

	// SystemCritical pods and privileged containers get a shim of their own.
	SystemCritical bool

	LogPath                string // absolute, CRI format
	TerminationMessagePath string // in the container; empty: none
	// TerminationMessageHostPath is the file mounted there.
	TerminationMessageHostPath string
	StopSignal                 string // "SIGTERM"; empty: the image's, else SIGTERM
}

// EnvVar is one resolved environment variable.
type EnvVar struct{ Name, Value string }

// Device is a device of the machine that a container may use.
type Device struct {
	HostPath      string // a device, a link to one, or a folder, which stands for all devices below
	ContainerPath string
	Permissions   string // of r, w and m, for read, write and mknod
}

// Mount is one bind mount into a container.
type Mount struct {
	HostPath string
	// SubPath is relative to HostPath and set where only that part of a volume is mounted. Whoever
	// creates the container resolves it without following links out of the volume.
	SubPath           string
	Volume            string // name of the volume in the pod; empty: one of the node's own files
	ContainerPath     string
	ReadOnly          bool
	RecursiveReadOnly bool // what is mounted below is read-only too
	// OfMachine says that the path is a hostPath volume's: what is there belongs to the machine.
	OfMachine bool
	// NodeWrites says that the content is the node's (a ConfigMap, Secret …), so that containers only read it.
	NodeWrites bool
	// OfImage says that it is a view of an image, which takes neither labels nor mapped ids.
	OfImage     bool
	Propagation v1.MountPropagationMode // empty: None
}
