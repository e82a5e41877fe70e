package pod

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// factsVersion is written into each record; a record of a later version is read as far as it is understood.
const factsVersion = 1

// Facts is what must be remembered of a pod because it cannot be read back from the world.
// Plan returns it, podrun stores it before it acts, and the next Plan finds it in Observed.
// It changes only when something happens to the pod, so a pod at rest costs no write.
type Facts struct {
	Version   int       `json:"v"`
	Namespace string    `json:"ns,omitempty"`
	Name      string    `json:"name,omitempty"`
	StartTime time.Time `json:"start,omitzero"` // when this node first saw the pod
	// Static pods come from the node's own files: the control plane cannot say that they are gone.
	Static bool `json:"static,omitempty"`
	// Failed is set when the node ended the pod: DeadlineExceeded, Evicted.
	Failed *Failed `json:"failed,omitempty"`
	// Stop is set from the moment that all containers are to end.
	Stop *PodStop `json:"stop,omitempty"`
	// Finished is Succeeded or Failed once the pod is so: it never runs again.
	Finished v1.PodPhase `json:"finished,omitempty"`
	// Allocated is what the node has granted; nil for a pod that asks for no CPU or memory.
	Allocated *Allocation `json:"allocated,omitempty"`
	// Resize is set while a resize is being carried out.
	Resize *Resize `json:"resize,omitempty"`
	// Containers by name.
	Containers map[string]ContainerFacts `json:"c,omitempty"`
}

// Failed is why the node ended a pod.
type Failed struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Disruption is the reason for a DisruptionTarget condition; empty: none. Say it where somebody may count the
	// pod's end against a budget of failures: Job controllers look for it.
	Disruption string `json:"disruption,omitempty"`
	// Rejected says that the node never ran the pod: it has no containers to speak of.
	Rejected bool `json:"rejected,omitempty"`
	// GraceSeconds is what containers get to end; nil: the pod's own.
	GraceSeconds *int64 `json:"grace,omitempty"`
}

// PodStop is the end of a whole pod.
type PodStop struct {
	GraceSeconds int64     `json:"grace"`
	Deadline     time.Time `json:"deadline"` // SIGKILL from here on
}

// Event is what the user is told of a pod that the node ended.
func (f *Failed) Event() (eventType, reason, message string) {
	eventType = v1.EventTypeWarning
	if f.Reason == deadlineExceeded {
		eventType = v1.EventTypeNormal
	}
	return eventType, f.Reason, strings.TrimPrefix(f.Message, rejectedPrefix)
}

// ContainerFacts is what must be remembered of one container of the spec.
type ContainerFacts struct {
	// Next is the number of the next attempt where no older one can be observed.
	Next int `json:"next,omitempty"`
	// Floor is the first attempt of the present sandbox; older ones belong to one that is gone.
	Floor int `json:"floor,omitempty"`
	// Restart is the back-off that the restart with this attempt was given.
	Restart *Restart `json:"restart,omitempty"`
	// Stop is set while, and after, the node ends one attempt for a reason of its own.
	Stop *ContainerStop `json:"stop,omitempty"`
	// Last is how the newest attempt ended, kept when the container itself goes.
	Last *LastRun `json:"last,omitempty"`
	// PostStarted, Started and Ready are the ids of the attempt whose postStart hook was run,
	// whose startup probe succeeded, whose readiness probe says ready.
	PostStarted string `json:"postStarted,omitempty"`
	Started     string `json:"started,omitempty"`
	Ready       string `json:"ready,omitempty"`
}

// Restart is one restart and the wait that follows the next failure.
type Restart struct {
	Attempt int           `json:"attempt"`
	BackOff time.Duration `json:"backOff"`
}

// StopReason is why the node ends one attempt.
type StopReason string

// The reasons.
const (
	StopChanged  StopReason = "changed"   // the container's definition changed
	StopLiveness StopReason = "liveness"  // the liveness probe failed
	StopStartup  StopReason = "startup"   // the startup probe failed
	StopHook     StopReason = "postStart" // the postStart hook failed
	StopSandbox  StopReason = "sandbox"   // the pod's namespaces are gone
	StopResize   StopReason = "resize"    // its resources changed, and its resizePolicy wants a restart for that
	StopAll      StopReason = "all"       // another container's end asked for the restart of all
	StopAsked    StopReason = "asked"     // its own end asked for the restart of all
	StopLost     StopReason = "lost"      // so it did, but whether that was done is not remembered
)

// StopMessage says to the user why the node ends a container.
func StopMessage(p *v1.Pod, name string, why StopReason) string {
	failed := func(what string) string {
		if c, kind, ok := FindContainer(p, name); ok && kind != Sidecar && policyOf(c, p, unknownExit) == v1.ContainerRestartPolicyNever {
			return fmt.Sprintf("Container %s failed %s", name, what)
		}
		return fmt.Sprintf("Container %s failed %s, will be restarted", name, what)
	}
	switch why {
	case StopChanged:
		return fmt.Sprintf("Container %s definition changed, will be restarted", name)
	case StopResize:
		return fmt.Sprintf("Container %s resize requires restart", name)
	case StopLiveness:
		return failed("liveness probe")
	case StopStartup:
		return failed("startup probe")
	case StopHook:
		return "FailedPostStartHook"
	}
	return "Stopping container " + name
}

// ContainerStop is the end of one attempt, decided by the node.
type ContainerStop struct {
	Attempt  int        `json:"attempt"`
	Reason   StopReason `json:"reason"`
	Deadline time.Time  `json:"deadline"`
}

// LastRun is how one attempt ended.
type LastRun struct {
	Attempt    int       `json:"attempt"`
	ID         string    `json:"id,omitempty"`
	Image      string    `json:"image,omitempty"`
	ImageID    string    `json:"imageID,omitempty"`
	ExitCode   int       `json:"exit"`
	Signal     int       `json:"signal,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Message    string    `json:"message,omitempty"`
	StartedAt  time.Time `json:"started,omitzero"`
	FinishedAt time.Time `json:"finished,omitzero"`
}

// Encode is the form in which facts are stored.
func (f Facts) Encode() ([]byte, error) {
	f.Version = factsVersion
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode facts of pod %s/%s: %w", f.Namespace, f.Name, err)
	}
	return b, nil
}

// DecodeFacts reads what Encode wrote. Unknown fields are skipped.
func DecodeFacts(b []byte) (Facts, error) {
	var f Facts
	if err := json.Unmarshal(b, &f); err != nil {
		return Facts{}, fmt.Errorf("decode facts: %w", err)
	}
	return f, nil
}

// clone copies f so that Plan never writes into its input. What pointers point at is replaced, never changed.
func (f Facts) clone() Facts {
	f.Containers = maps.Clone(f.Containers)
	if f.Containers == nil {
		f.Containers = map[string]ContainerFacts{}
	}
	return f
}
