package podrun

import (
	"coracle/agent/cgroup"
	"coracle/agent/cni"
	"coracle/agent/image"
	"coracle/agent/runtime"
	"coracle/agent/status"
	"coracle/agent/store"
	"coracle/agent/volume"
)

// The doors are what the producers are.
var (
	_ Store   = (*store.Store)(nil)
	_ Runtime = (*runtime.Runtime)(nil)
	_ Images  = (*image.Images)(nil)
	_ Network = (*cni.CNI)(nil)
	_ Volumes = (*volume.Volumes)(nil)
	_ Cgroups = (*cgroup.Cgroups)(nil)
	_ Outbox  = (*status.Outbox)(nil)
	_ Events  = (*status.Recorder)(nil)
)
