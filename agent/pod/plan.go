// Package pod decides what happens to a pod on this node. It is PURE: Plan takes what is
// desired, what is observed and the time, and returns the steps to execute now, when to look
// again, and the status to report. It owns phases, conditions, container states, restart
// back-off, the order of init containers, sidecars and main containers, and termination.
// It executes nothing: agent/podrun does, and the doors behind it.
//
//	           ┌────────── Removed, or deleted and all containers ended ──────────┐
//	           │                                                                  ▼
//	new ──▶ prepare ──▶ init 1 … n ──▶ main containers ──▶ finished ──deleted──▶ tear down ──▶ Released
//	        namespaces  (sidecars stay  run, restart       containers kept       containers, network,
//	        network     from their      with back-off      for their logs,       volumes, cgroup
//	        volumes     place on)                          the rest is freed
//	        cgroup
//
// One attempt of a container goes Created → Running → Exited and never back. Attempts are
// numbered from 0; the newest and the one before it are kept for logs and lastState.
//
// Invariants:
//   - An attempt is created only when no other attempt of that container runs.
//   - A running container is stopped only because its pod is deleted, removed, over its
//     deadline or finished; or because its definition or its resources changed, a probe or its postStart hook
//     failed, or its pod's namespaces are gone. Losing the agent, the store's facts or the
//     control plane is none of these.
//   - Nothing of the pod is torn down while one of its containers runs.
//   - Finished never goes back.
package pod

import (
	"cmp"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Plan decides. It is a pure and total function: the same input gives the same result, the
// order of observed containers does not matter, and its input is not changed.
func Plan(desired Desired, observed Observed, now time.Time) Result {
	p := newPlanner(desired, observed, now)
	switch {
	case desired.Removed || desired.Pod == nil:
		p.erase()
	case p.pod.DeletionTimestamp != nil:
		p.terminate()
	default:
		p.live()
	}
	r := Result{Steps: p.steps, Released: p.released, Facts: p.facts}
	if desired.Pod != nil && !desired.Removed {
		r.Status = p.status()
		r.Probes = p.probes()
	}
	r.WakeAt = p.wake
	return r
}

// planner holds one call of Plan.
type planner struct {
	d        Desired
	o        Observed
	pod      *v1.Pod
	now      time.Time
	facts    Facts
	units    []*unit // in the order of the spec: init, main, ephemeral
	steps    []Step
	wake     time.Time
	released bool

	// What live collects before it orders it.
	pulls, creates, starts []Step
	needsInfra             bool
	// updates are the running containers that a resize is to give other resources.
	updates []Step
	// pending is why a resize is not granted; nil where there is none.
	pending *v1.PodCondition
	// restarting says that containers are being ended so that all start anew.
	restarting bool
}

func newPlanner(d Desired, o Observed, now time.Time) *planner {
	p := &planner{d: d, o: o, pod: d.Pod, now: now, facts: o.Facts.clone()}
	if p.pod == nil {
		return p
	}
	if p.facts.StartTime.IsZero() {
		p.facts.StartTime = now.Truncate(time.Second)
		if t := d.Previous.StartTime; t != nil && !t.IsZero() {
			p.facts.StartTime = t.Time
		}
	}
	p.facts.Namespace, p.facts.Name, p.facts.Static = p.pod.Namespace, p.pod.Name, Static(p.pod)
	if p.facts.Finished == "" {
		// Known to the API server, while what this node remembered of it was lost.
		p.facts.Finished = cmp.Or(finalPhase(p.d.Previous.Phase), finalPhase(p.pod.Status.Phase))
	}
	p.grant()
	if d.End != nil && p.facts.Finished == "" && p.facts.Failed == nil {
		p.facts.Failed = d.End
	}
	p.units = unitsOf(p)
	p.forgetAsked()
	return p
}

// Final says whether a pod never leaves this phase.
func Final(phase v1.PodPhase) bool { return phase == v1.PodSucceeded || phase == v1.PodFailed }

func finalPhase(phase v1.PodPhase) v1.PodPhase {
	if Final(phase) {
		return phase
	}
	return ""
}

// wakeAt asks for Plan to be called again at t, if nothing earlier was asked for.
func (p *planner) wakeAt(t time.Time) {
	if p.wake.IsZero() || t.Before(p.wake) {
		p.wake = t
	}
}

func (p *planner) add(s Step) { p.steps = append(p.steps, s) }

// live plans a pod that is wanted.
func (p *planner) live() {
	switch {
	case p.facts.Finished != "" && !p.anyRunning():
		p.finish()
		return
	case p.overDeadline():
		p.facts.Failed = &Failed{
			Reason:  deadlineExceeded,
			Message: "Pod was active on the node longer than the specified deadline",
		}
	}
	if p.facts.Finished == "" && p.facts.Failed == nil && p.restartAll() {
		return
	}
	if p.facts.Finished != "" || p.facts.Failed != nil || p.initFailed() || p.mainsDone() {
		if p.anyRunning() {
			p.stopAll(p.stopDeadline(p.endGrace()))
			return
		}
		p.facts.Finished = p.phase(true)
		p.remember()
		p.finish()
		return
	}
	p.advance()
}

const deadlineExceeded = "DeadlineExceeded"

// overDeadline also asks to be woken when the deadline comes.
func (p *planner) overDeadline() bool {
	if p.pod.Spec.ActiveDeadlineSeconds == nil || p.facts.Failed != nil {
		return false
	}
	end := p.facts.StartTime.Add(time.Duration(*p.pod.Spec.ActiveDeadlineSeconds) * time.Second)
	if p.now.Before(end) {
		p.wakeAt(end)
		return false
	}
	return true
}

// advance brings the pod's containers further: prepares what they need, starts those
// whose turn it is, and keeps the started ones up.
func (p *planner) advance() {
	if p.o.Sandbox == nil {
		if p.stopStale() {
			return
		}
		p.raiseFloors()
	}
	if p.initialize() {
		for _, u := range p.units {
			if u.kind == Main || u.kind == Ephemeral {
				p.keepUp(u)
			}
		}
	}
	for _, u := range p.units {
		p.prune(u)
	}
	p.carryOut()
	p.steps = append(p.steps, p.pulls...)
	if p.needsInfra {
		p.prepare()
	}
	p.steps = append(p.steps, p.creates...)
	p.steps = append(p.steps, p.starts...)
}

// prepare adds what the pod needs before a container can be created.
func (p *planner) prepare() {
	if !p.o.CgroupReady {
		p.add(MakeCgroup{})
	}
	if p.o.Sandbox == nil {
		p.add(PinNamespaces{})
	}
	if !p.o.VolumesReady {
		p.add(MountVolumes{})
	}
	if !p.attached() && !p.pod.Spec.HostNetwork {
		p.add(AttachNetwork{})
	}
}

func (p *planner) attached() bool { return p.o.Sandbox != nil && p.o.Sandbox.Attached }

// stopStale stops containers that run although their namespaces are no longer pinned:
// nothing could join them, and a restarted neighbour would not share their network. It
// reports whether there were any.
func (p *planner) stopStale() bool {
	found := false
	for _, u := range p.units {
		if c := u.running(); c != nil {
			found = true
			p.stopFor(u, c, StopSandbox)
		}
	}
	return found
}

// raiseFloors notes that every attempt so far belongs to a sandbox that is gone, so that
// init containers run again in the next one.
func (p *planner) raiseFloors() {
	for _, u := range p.units {
		if c := u.newest(); c != nil && c.Attempt >= u.facts.Floor {
			u.facts.Floor = c.Attempt + 1
			p.save(u)
		}
	}
}

// initialize walks the init containers in order and reports whether main containers may start.
func (p *planner) initialize() bool {
	started := p.mainsStarted()
	for _, u := range p.units {
		switch u.kind {
		case Sidecar:
			p.keepUp(u)
			if !started && !u.started() {
				return false
			}
		case Init:
			if started || u.initDone() {
				continue
			}
			p.keepUp(u)
			return false
		}
	}
	return true
}

// mainsStarted says whether a main container was ever made in this sandbox: then the init
// containers are done, whatever can still be seen of them.
func (p *planner) mainsStarted() bool {
	for _, u := range p.units {
		if c := u.newest(); u.kind == Main && c != nil && !u.stale(c) && c.State != Created {
			return true
		}
	}
	return false
}

// prune removes attempts older than the last two.
func (p *planner) prune(u *unit) {
	for i, c := range u.attempts {
		if i > 1 && c.State != Running {
			p.add(RemoveContainer{ID: c.ID, Name: c.Name, Attempt: c.Attempt})
		}
	}
}
