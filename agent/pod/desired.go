package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Desired is what the control plane wants of one pod on this node.
type Desired struct {
	// Pod as the API server holds it. May be nil only with Removed: a pod of an earlier life that nobody assigned.
	Pod *v1.Pod
	// Removed says that the pod is no longer assigned: it was deleted by force, or never came back
	// after the set was complete. All of it goes, at once.
	Removed bool
	// End is why the node ends the pod, or does not begin it: a rejection, eviction, preemption, shutdown. Nil: nothing of the
	// kind. It need be said only until Facts has it, and it is read, never changed.
	End *Failed
	// Spare says that the disk is short: containers that have ended go, with their logs, where their pod has ended too. How they ended is remembered.
	Spare bool
	// BackOffMax bounds the wait before a container is restarted; zero: five minutes, as Kubernetes has it.
	BackOffMax time.Duration
	// HostIPs are the node's addresses, primary first.
	HostIPs []string
	// Room is what the node can grant. It may be nil where AsksResize is false.
	Room *Room
	// Previous is the status reported last; the API server's copy right after a restart.
	// It keeps transition times and the addresses of a pod that has ended.
	Previous v1.PodStatus
}

// Result is what Plan decides.
type Result struct {
	// Steps may be executed now; After says which must wait for which. Empty: nothing to do.
	Steps []Step
	// WakeAt is when Plan wants to be asked again even if nothing changed; zero: never.
	WakeAt time.Time
	// Status to report. Conditions are only those that the node owns. Empty for a removed pod: nobody asks for it.
	Status v1.PodStatus
	// Released says that nothing of a deleted or removed pod is left on the node.
	Released bool
	// Facts must be stored, where they differ from Observed.Facts, before the first step is executed.
	Facts Facts
	// Probes are all that should be running for this pod now.
	Probes []ProbeTarget
}

// ProbeKind tells the probes of a container apart.
type ProbeKind string

// The kinds of probe.
const (
	Startup   ProbeKind = "startup"
	Readiness ProbeKind = "readiness"
	Liveness  ProbeKind = "liveness"
)

// ProbeTarget is one probe to run against one attempt of a container.
type ProbeTarget struct {
	ContainerID string
	Container   string
	Kind        ProbeKind
	Probe       *v1.Probe
	Ports       []v1.ContainerPort // of the container, for ports given by name
	StartedAt   time.Time          // of the container; the initial delay counts from here
}
