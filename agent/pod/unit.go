package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// unit is one container of the spec with all that is known of it.
type unit struct {
	spec     *v1.Container
	kind     Kind
	attempts []Container // newest first
	facts    ContainerFacts
	previous *v1.ContainerStatus // as reported last; nil: never
	restarts func(*Container) bool
}

// KindOf tells an init container from a sidecar.
func KindOf(init *v1.Container) Kind {
	if init.RestartPolicy != nil && *init.RestartPolicy == v1.ContainerRestartPolicyAlways {
		return Sidecar
	}
	return Init
}

func unitsOf(p *planner) []*unit {
	spec := &p.pod.Spec
	units := make([]*unit, 0, len(spec.InitContainers)+len(spec.Containers)+len(spec.EphemeralContainers))
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		units = append(units, &unit{spec: c, kind: KindOf(c), previous: statusOf(p.d.Previous.InitContainerStatuses, c.Name)})
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		units = append(units, &unit{spec: c, kind: Main, previous: statusOf(p.d.Previous.ContainerStatuses, c.Name)})
	}
	for i := range spec.EphemeralContainers {
		c := v1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		units = append(units, &unit{spec: &c, kind: Ephemeral, previous: statusOf(p.d.Previous.EphemeralContainerStatuses, c.Name)})
	}
	for _, u := range units {
		u.facts = p.facts.Containers[u.spec.Name]
		for _, c := range p.o.Containers {
			if c.Name == u.spec.Name {
				u.attempts = append(u.attempts, c)
			}
		}
		slices.SortFunc(u.attempts, func(a, b Container) int { return b.Attempt - a.Attempt })
		u.restarts = func(c *Container) bool { return p.restartWanted(u, c) }
	}
	return units
}

func statusOf(list []v1.ContainerStatus, name string) *v1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

// save puts u's facts back into the pod's.
func (p *planner) save(u *unit) { p.facts.Containers[u.spec.Name] = u.facts }

// newest is the latest attempt that still exists, or nil.
func (u *unit) newest() *Container {
	if len(u.attempts) == 0 {
		return nil
	}
	return &u.attempts[0]
}

// running is the attempt that runs, or nil. There is never more than one, but if someone
// else made a second, the older is found first and stopped first.
func (u *unit) running() *Container {
	for i := len(u.attempts) - 1; i >= 0; i-- {
		if u.attempts[i].State == Running {
			return &u.attempts[i]
		}
	}
	return nil
}

// stale says that c belongs to a sandbox that is gone.
func (u *unit) stale(c *Container) bool { return c.Attempt < u.facts.Floor }

// ended says that c will not run any more. One that was made in a sandbox that is gone
// counts as ended even if it never started: it cannot be told whether it did.
func (u *unit) ended(c *Container) bool {
	return c.State == Exited || c.State == Created && u.stale(c)
}

// initDone says that this init container has ended well in this sandbox.
func (u *unit) initDone() bool {
	c := u.newest()
	return c != nil && c.State == Exited && c.ExitCode == 0 && !u.stale(c)
}

// started is what status calls so: running, its postStart hook over, its startup probe passed.
func (u *unit) started() bool {
	c := u.newest()
	if c == nil || c.State != Running {
		return false
	}
	return u.postStartOver(c) && u.startupPassed(c)
}

func (u *unit) postStartOver(c *Container) bool {
	if u.spec.Lifecycle == nil || u.spec.Lifecycle.PostStart == nil || u.facts.PostStarted == c.ID || c.Live.PostStart == HookDone {
		return true
	}
	// Only what is past its hook is reported as running: a store that was lost runs no hook twice.
	return u.previous != nil && u.previous.State.Running != nil && u.previous.ContainerID == runtimeScheme+c.ID
}

// shownRunning says that users are to see c as running: its postStart hook is over.
func (u *unit) shownRunning(c *Container) bool { return c.State == Running && u.postStartOver(c) }

func (u *unit) startupPassed(c *Container) bool {
	return u.spec.StartupProbe == nil || u.facts.Started == c.ID || c.Live.Startup == Success
}

// ready is what status calls so of a running container. A fresh agent that has not probed
// yet goes on with what was ready before, so that its own restart never flips a condition.
func (u *unit) ready(c *Container) bool {
	if !u.started() {
		return false
	}
	if u.spec.ReadinessProbe == nil {
		return true
	}
	switch c.Live.Readiness {
	case Success:
		return true
	case Failure:
		return false
	}
	return u.facts.Ready == c.ID
}

// nextAttempt is the number that a new attempt gets.
func (u *unit) nextAttempt() int {
	if c := u.newest(); c != nil {
		return c.Attempt + 1
	}
	next := u.facts.Next
	if u.previous != nil && u.previous.ContainerID != "" {
		// It was seen and is gone without a trace: whatever it did counts as an attempt.
		next = max(next, int(u.previous.RestartCount)+1)
	}
	return next
}
