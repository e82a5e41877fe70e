package podrun

import (
	"context"

	v1 "k8s.io/api/core/v1"
	nodeapi "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cni"
	"coracle/agent/image"
	"coracle/agent/pod"
	"coracle/agent/runtime"
	"coracle/agent/store"
	"coracle/agent/volume"
)

// Store is what podrun reads of the node's store, and where it keeps its facts. *store.Store is one.
type Store interface {
	Pods() []*v1.Pod
	Pod(uid types.UID) (*v1.Pod, bool)
	Objects(kind string) []store.Object
	ConfigMap(namespace, name string) (*v1.ConfigMap, bool)
	Secret(namespace, name string) (*v1.Secret, bool)
	Services() []*v1.Service
	RuntimeClass(name string) (*nodeapi.RuntimeClass, bool)
	Complete() bool
	// LocalWhole says whether the pods of the node's own files are all known.
	LocalWhole() bool
	Watch() <-chan store.Change
	Unwatch(<-chan store.Change)

	PutFact(bucket, key string, value []byte) error
	Fact(bucket, key string) ([]byte, bool)
	Facts(bucket string) map[string][]byte
	DeleteFact(bucket string, keys ...string) error
}

// Runtime is containerd as podrun uses it. *runtime.Runtime is one.
type Runtime interface {
	ObserveAll(ctx context.Context) (map[types.UID]pod.Observed, error)
	Observe(ctx context.Context, uid types.UID) (pod.Observed, error)
	EnsureSandbox(ctx context.Context, spec runtime.SandboxSpec) (*pod.Sandbox, error)
	RemoveSandbox(ctx context.Context, uid types.UID) error
	Create(ctx context.Context, spec pod.ContainerSpec) (id string, err error)
	Start(ctx context.Context, id string) error
	// RootfsUsage is what a container has written into its root file system.
	RootfsUsage(ctx context.Context, id string) (bytes, inodes int64, err error)
	// Update gives a running container other resources.
	Update(ctx context.Context, id string, spec pod.ContainerSpec) error
	// Signal sends sig; empty is the container's own stop signal.
	Signal(ctx context.Context, id, sig string) error
	Remove(ctx context.Context, id string) error
	Exec(ctx context.Context, id string, spec runtime.ExecSpec) (exitCode int, err error)
	// Features says what mounts and namespaces can do here. It is asked only for pods that need to know.
	Features(ctx context.Context) runtime.Features
	// Changes says which pod to look at again; the zero UID means all.
	Changes() <-chan types.UID
}

// Images brings images to the node. *image.Images is one.
type Images interface {
	Ensure(ctx context.Context, req image.Request) (image.Image, error)
	Get(ctx context.Context, ref string) (image.Image, error)
	// Pulls lists what is being pulled.
	Pulls() []image.Progress
	// VolumeImage is what a volume of the pod shows already; of class NotFound where nothing.
	VolumeImage(ctx context.Context, uid types.UID, volume string) (imageID string, err error)
	MountVolume(ctx context.Context, uid types.UID, volume string, img image.Image, target string) error
}

// Network attaches pods. *cni.CNI is one.
type Network interface {
	Attach(ctx context.Context, a cni.Attachment) (cni.Result, error)
	Detach(ctx context.Context, uid types.UID, namespace, name, netnsPath string) error
	Result(uid types.UID) (cni.Result, bool)
	Attached(ctx context.Context) ([]types.UID, error)
}

// Volumes makes volumes and the few files that every pod gets. *volume.Volumes is one.
type Volumes interface {
	Ensure(ctx context.Context, r volume.Request) (volume.Result, error)
	EnsureFiles(ctx context.Context, r volume.FilesRequest) (volume.Files, error)
	EnsureTerminationLog(uid types.UID, container string, attempt int) (string, error)
	EnsureSubPath(s volume.SubPath) (string, error)
	// ReadFile reads a small file of a volume, which the pod may have written.
	ReadFile(volumePath, path string) ([]byte, error)
	RemoveAttempt(uid types.UID, container string, attempt int) error
	Remove(ctx context.Context, uid types.UID) error
	Pods(ctx context.Context) (map[types.UID]bool, error)
}

// Cgroups makes the pods' groups. *cgroup.Cgroups is one.
type Cgroups interface {
	EnsurePod(ctx context.Context, pod *v1.Pod) (parent string, err error)
	LoosenPod(ctx context.Context, pod *v1.Pod) error
	RemovePod(ctx context.Context, uid types.UID) error
	Pods(ctx context.Context) (map[types.UID]bool, error)
}

// Devices gives pods the devices that plugins offer. *device.Devices is one.
type Devices interface {
	// Admit is durable when it returns nil.
	Admit(ctx context.Context, p *v1.Pod) *pod.Rejection
	// Prepare adds what a container's devices need to its definition.
	Prepare(ctx context.Context, p *v1.Pod, c *v1.Container, spec *pod.ContainerSpec) error
	// Health is that of the pod's devices by container; nil for a pod without any.
	Health(uid types.UID) map[string][]v1.ResourceStatus
	Release(uid types.UID) error
	Pods(ctx context.Context) (map[types.UID]bool, error)
}

// Outbox takes statuses to report. *status.Outbox is one.
type Outbox interface {
	SetPod(uid types.UID, namespace, name string, status v1.PodStatus, released bool)
	// SetLocalPod keeps the status of a pod that the API does not know by this uid.
	SetLocalPod(uid types.UID, namespace, name string, status v1.PodStatus)
	Last(uid types.UID) (status v1.PodStatus, released, ok bool)
	Forget(uid types.UID)
}

// Events takes events. *status.Recorder is one.
type Events interface {
	Event(ref v1.ObjectReference, eventType, reason, message string)
}
