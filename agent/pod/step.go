package pod

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// Step is one effect on the world. Steps are plain values; executing one twice does no harm.
type Step interface {
	fmt.Stringer // a sentence
	isStep()
}

// Hook tells the lifecycle hooks apart.
type Hook string

// The hooks.
const (
	PostStart Hook = "postStart"
	PreStop   Hook = "preStop"
)

// The steps of a pod's life, roughly in its order.
type (
	// PullImage makes the image of one attempt, or of a volume, present, as Policy says.
	PullImage struct {
		Container string
		Volume    string // set where the image is a volume's, and no container is
		Attempt   int
		Image     string
		Policy    v1.PullPolicy
	}
	// PinNamespaces makes the pod's network, IPC and UTS namespaces.
	PinNamespaces struct{}
	// AttachNetwork is CNI ADD on the pinned network namespace.
	AttachNetwork struct{}
	// MountVolumes brings every volume of the pod to its host path.
	MountVolumes struct{}
	// MakeCgroup makes the pod's cgroup with its limits.
	MakeCgroup struct{}
	// CreateContainer makes one attempt, not running. NeedsIP says that its definition names the pod's address.
	CreateContainer struct {
		Name    string
		Kind    Kind
		Attempt int
		NeedsIP bool
	}
	// StartContainer starts one attempt. ID is empty where the same plan creates it.
	StartContainer struct {
		Name    string
		Kind    Kind
		Attempt int
		ID      string
	}
	// RunHook runs a lifecycle hook of a running container.
	RunHook struct {
		ID   string
		Name string
		Hook Hook
	}
	// SignalContainer sends a signal; empty is the container's own stop signal.
	SignalContainer struct {
		ID     string
		Name   string
		Signal string
	}
	// RemoveContainer removes one attempt that does not run, with its log.
	RemoveContainer struct {
		ID      string
		Name    string
		Attempt int
	}
	// DetachNetwork is CNI DEL.
	DetachNetwork struct{}
	// RemoveNamespaces unpins the pod's namespaces.
	RemoveNamespaces struct{}
	// UnmountVolumes unmounts and removes the pod's volumes.
	UnmountVolumes struct{}
	// RemoveCgroup removes the pod's cgroup.
	RemoveCgroup struct{}
	// LoosenCgroup gives the pod's cgroup the larger of what it has and what a resize granted.
	LoosenCgroup struct{}
	// UpdateContainer gives a running attempt the resources that a resize granted.
	UpdateContainer struct {
		ID      string
		Name    string
		Attempt int
	}
	// SettleCgroup gives the pod's cgroup what a resize granted, once all its containers have that.
	SettleCgroup struct{}
)

func (s PullImage) String() string {
	whose := "container " + s.Container
	if s.Volume != "" {
		whose = "volume " + s.Volume
	}
	switch s.Policy {
	case v1.PullAlways:
		return fmt.Sprintf("pull image %s for %s", s.Image, whose)
	case v1.PullNever:
		return fmt.Sprintf("find image %s for %s", s.Image, whose)
	}
	return fmt.Sprintf("pull image %s for %s unless present", s.Image, whose)
}
func (PinNamespaces) String() string { return "pin namespaces" }
func (AttachNetwork) String() string { return "attach network" }
func (MountVolumes) String() string  { return "mount volumes" }
func (MakeCgroup) String() string    { return "make the pod's cgroup" }
func (s CreateContainer) String() string {
	return "create " + describe(s.Name, s.Kind, s.Attempt)
}
func (s StartContainer) String() string {
	return "start " + describe(s.Name, s.Kind, s.Attempt)
}
func (s RunHook) String() string {
	return fmt.Sprintf("run the %s hook of container %s", s.Hook, s.Name)
}
func (s SignalContainer) String() string {
	if s.Signal == "" {
		return "send the stop signal to container " + s.Name
	}
	return fmt.Sprintf("send %s to container %s", s.Signal, s.Name)
}
func (s RemoveContainer) String() string {
	return fmt.Sprintf("remove container %s (attempt %d)", s.Name, s.Attempt)
}
func (DetachNetwork) String() string    { return "detach network" }
func (RemoveNamespaces) String() string { return "remove namespaces" }
func (UnmountVolumes) String() string   { return "unmount volumes" }
func (RemoveCgroup) String() string     { return "remove cgroup" }
func (LoosenCgroup) String() string     { return "loosen the pod's cgroup for a resize" }
func (s UpdateContainer) String() string {
	return fmt.Sprintf("resize container %s (attempt %d)", s.Name, s.Attempt)
}
func (SettleCgroup) String() string { return "settle the pod's cgroup after a resize" }

func describe(name string, kind Kind, attempt int) string {
	noun := "container"
	if kind != Main {
		noun = string(kind) + " container"
	}
	return fmt.Sprintf("%s %s (attempt %d)", noun, name, attempt)
}

func (PullImage) isStep()        {}
func (PinNamespaces) isStep()    {}
func (AttachNetwork) isStep()    {}
func (MountVolumes) isStep()     {}
func (MakeCgroup) isStep()       {}
func (CreateContainer) isStep()  {}
func (StartContainer) isStep()   {}
func (RunHook) isStep()          {}
func (SignalContainer) isStep()  {}
func (RemoveContainer) isStep()  {}
func (DetachNetwork) isStep()    {}
func (RemoveNamespaces) isStep() {}
func (UnmountVolumes) isStep()   {}
func (RemoveCgroup) isStep()     {}
func (LoosenCgroup) isStep()     {}
func (UpdateContainer) isStep()  {}
func (SettleCgroup) isStep()     {}

// Wait says how one step of a plan depends on an earlier one.
type Wait int

// The kinds of dependence.
const (
	Independent Wait = iota // both may run at once
	Ended                   // the later waits until the earlier has ended, well or not
	Succeeded               // the later is left out unless the earlier ended well
)

// After says how later depends on earlier, where both are in one plan in this order.
func After(later, earlier Step) Wait {
	switch l := later.(type) {
	case PinNamespaces: // a first process that all containers share lives in the pod's cgroup
		if _, ok := earlier.(MakeCgroup); ok {
			return Succeeded
		}
	case AttachNetwork:
		if _, ok := earlier.(PinNamespaces); ok {
			return Succeeded
		}
	case MountVolumes: // an image that is quickly there is mounted at once
		if e, ok := earlier.(PullImage); ok && e.Volume != "" {
			return Ended
		}
	case UpdateContainer:
		if _, ok := earlier.(LoosenCgroup); ok {
			return Succeeded
		}
	case CreateContainer:
		switch e := earlier.(type) {
		case PinNamespaces, MountVolumes, MakeCgroup, LoosenCgroup:
			return Succeeded
		case AttachNetwork: // plugins take their time; most containers can be made meanwhile
			if l.NeedsIP {
				return Succeeded
			}
		case PullImage:
			if e.Container == l.Name && e.Volume == "" {
				return Succeeded
			}
		case RemoveContainer:
			if e.Name == l.Name {
				return Succeeded
			}
		}
	case StartContainer:
		switch e := earlier.(type) {
		case PinNamespaces, AttachNetwork, MountVolumes, MakeCgroup, LoosenCgroup:
			return Succeeded
		case CreateContainer:
			if e.Name == l.Name {
				return Succeeded
			}
		case StartContainer: // containers start in the order of the spec, as far as they are ready to
			return Ended
		}
	case DetachNetwork, UnmountVolumes, RemoveCgroup:
		if _, ok := earlier.(RemoveContainer); ok {
			return Succeeded
		}
	case RemoveNamespaces:
		switch earlier.(type) {
		case RemoveContainer, DetachNetwork:
			return Succeeded
		}
	}
	return Independent
}
