package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// killAgain is when SIGKILL is sent once more to a process that has not gone: long enough
// for one that waits for a slow disk.
const killAgain = 10 * time.Second

// defaultGrace is terminationGracePeriodSeconds where the spec has none.
const defaultGrace = 30

func (p *planner) gracePeriod() int64 {
	if s := p.pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return *s
	}
	return defaultGrace
}

// endGrace is the grace of a pod that ends without having been deleted.
func (p *planner) endGrace() int64 {
	if f := p.facts.Failed; f != nil && f.GraceSeconds != nil {
		return min(*f.GraceSeconds, p.gracePeriod())
	}
	return p.gracePeriod()
}

// terminate plans a pod that the user has deleted.
func (p *planner) terminate() {
	grace := p.gracePeriod()
	if g := p.pod.DeletionGracePeriodSeconds; g != nil {
		grace = *g
	}
	if p.anyRunning() {
		p.stopAll(p.stopDeadline(grace))
		return
	}
	p.remember()
	p.tearDown(true)
}

// erase plans a pod that is no longer assigned: everything goes, after the little time to end
// that Kubernetes gives on a node to pods that were deleted by force.
func (p *planner) erase() {
	if p.anyRunning() {
		for i := range p.o.Containers {
			if c := &p.o.Containers[i]; c.State == Running {
				p.end(c)
			}
		}
		sortSteps(p.steps)
		return
	}
	p.tearDown(true)
}

// finish frees what a pod that has ended does not need; its containers stay for their logs, unless the disk is short.
func (p *planner) finish() {
	if f := p.facts.Failed; p.d.Spare || f != nil && f.Reason == evicted {
		p.remember()
		for _, c := range p.o.Containers {
			p.add(RemoveContainer{ID: c.ID, Name: c.Name, Attempt: c.Attempt})
		}
		sortSteps(p.steps)
		p.tearDown(false)
		return
	}
	for _, u := range p.units {
		p.prune(u)
		if c := u.newest(); c != nil && c.State == Created {
			p.add(RemoveContainer{ID: c.ID, Name: c.Name, Attempt: c.Attempt})
		}
	}
	p.tearDown(false)
}

// tearDown removes what is there. Nothing runs when it is called.
func (p *planner) tearDown(containers bool) {
	o := &p.o
	if containers {
		first := len(p.steps)
		for _, c := range o.Containers {
			p.add(RemoveContainer{ID: c.ID, Name: c.Name, Attempt: c.Attempt})
		}
		sortSteps(p.steps[first:])
	}
	if o.Network || o.Sandbox != nil && o.Sandbox.Attached && o.Sandbox.NetnsPath != "" {
		p.add(DetachNetwork{})
	}
	if o.Sandbox != nil {
		p.add(RemoveNamespaces{})
	}
	if o.Volumes {
		p.add(UnmountVolumes{})
	}
	if o.Cgroup {
		p.add(RemoveCgroup{})
	}
	p.released = containers && len(p.steps) == 0
}

// stopDeadline is when containers that still run are killed. A later stop can only shorten it.
func (p *planner) stopDeadline(grace int64) time.Time {
	s := p.facts.Stop
	if s == nil || grace < s.GraceSeconds {
		n := PodStop{GraceSeconds: grace, Deadline: p.now.Add(time.Duration(grace) * time.Second)}
		if s != nil && s.Deadline.Before(n.Deadline) {
			n.Deadline = s.Deadline
		}
		p.facts.Stop = &n
	}
	// A clock that was set back must not make the end wait for years.
	if end := p.now.Add(time.Duration(p.facts.Stop.GraceSeconds) * time.Second); p.facts.Stop.Deadline.After(end) {
		p.facts.Stop = &PodStop{GraceSeconds: p.facts.Stop.GraceSeconds, Deadline: end}
	}
	return p.facts.Stop.Deadline
}

// stopAll ends every running container: all but sidecars together, then the sidecars one by
// one in reverse order. preStop hooks run from the start. What was made but not started stays so.
func (p *planner) stopAll(deadline time.Time) {
	p.killStrays()
	othersRun, sidecarAfter := false, false
	for _, u := range p.units {
		if c := u.running(); c != nil && u.kind != Sidecar {
			othersRun = true
			p.stop(u, c, deadline, true)
		}
	}
	for i := len(p.units) - 1; i >= 0; i-- {
		u := p.units[i]
		if c := u.running(); c != nil && u.kind == Sidecar {
			p.stop(u, c, deadline, !othersRun && !sidecarAfter)
			sidecarAfter = true
		}
	}
}

// killStrays ends running containers that the spec does not name.
func (p *planner) killStrays() {
	named := map[string]bool{}
	for _, u := range p.units {
		named[u.spec.Name] = true
	}
	for i := range p.o.Containers {
		if c := &p.o.Containers[i]; c.State == Running && !named[c.Name] {
			p.kill(c)
		}
	}
	sortSteps(p.steps)
}

// stop ends one running attempt: preStop, the stop signal when it may be sent, SIGKILL at the deadline.
func (p *planner) stop(u *unit, c *Container, deadline time.Time, maySignal bool) {
	if !p.now.Before(deadline) {
		p.end(c)
		return
	}
	p.wakeAt(deadline)
	if l := u.spec.Lifecycle; l != nil && l.PreStop != nil {
		switch c.Live.PreStop {
		case HookIdle:
			p.add(RunHook{ID: c.ID, Name: c.Name, Hook: PreStop})
			return
		case HookRunning:
			return
		}
	}
	if maySignal && c.Live.TermAt.IsZero() {
		p.add(SignalContainer{ID: c.ID, Name: c.Name})
	}
}

// leastGrace lies between the stop signal and SIGKILL even where the grace was used up by a preStop hook, or was none.
const leastGrace = 2 * time.Second

// end ends a container whose grace is over: at once if it has had its stop signal, else a moment after that.
func (p *planner) end(c *Container) {
	at := c.Live.TermAt
	if at.IsZero() {
		p.add(SignalContainer{ID: c.ID, Name: c.Name})
		return
	}
	if until := at.Add(leastGrace); p.now.Before(until) && !at.After(p.now) {
		p.wakeAt(until)
		return
	}
	p.kill(c)
}

// stopFor ends one attempt for a reason of its own, remembered so that the attempt after it knows.
func (p *planner) stopFor(u *unit, c *Container, why StopReason) {
	if s := u.facts.Stop; s == nil || s.Attempt != c.Attempt {
		grace := time.Duration(p.graceFor(u, why)) * time.Second
		u.facts.Stop = &ContainerStop{Attempt: c.Attempt, Reason: why, Deadline: p.now.Add(grace)}
		p.save(u)
	}
	p.stop(u, c, u.facts.Stop.Deadline, true)
}

// graceFor is the grace for one container; a probe may have its own.
func (p *planner) graceFor(u *unit, why StopReason) int64 {
	var probe *v1.Probe
	switch why {
	case StopLiveness:
		probe = u.spec.LivenessProbe
	case StopStartup:
		probe = u.spec.StartupProbe
	}
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		return *probe.TerminationGracePeriodSeconds
	}
	return p.gracePeriod()
}

// kill sends SIGKILL, and again when that had no effect for long.
func (p *planner) kill(c *Container) {
	if at := c.Live.KillAt; !at.IsZero() && !at.After(p.now) && p.now.Before(at.Add(killAgain)) {
		p.wakeAt(at.Add(killAgain))
		return
	}
	p.wakeAt(p.now.Add(killAgain))
	p.add(SignalContainer{ID: c.ID, Name: c.Name, Signal: "SIGKILL"})
}

// remember keeps how each container ended, before the containers themselves are removed.
func (p *planner) remember() {
	for _, u := range p.units {
		c := u.newest()
		if c == nil || c.State != Exited {
			continue
		}
		if l := u.facts.Last; l != nil && l.Attempt == c.Attempt && l.ID == c.ID {
			continue
		}
		u.facts.Last = lastRun(c)
		p.save(u)
	}
}

func lastRun(c *Container) *LastRun {
	return &LastRun{
		Attempt: c.Attempt, ID: c.ID, Image: c.Image, ImageID: c.ImageID,
		ExitCode: c.ExitCode, Signal: c.Signal, Reason: exitReason(c), Message: c.Message,
		StartedAt: c.StartedAt, FinishedAt: c.FinishedAt,
	}
}
