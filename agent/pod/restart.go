package pod

import (
	"cmp"
	"time"

	v1 "k8s.io/api/core/v1"
)

// Back-off of restarts and image pulls, as Kubernetes documents it: it doubles from 10 s to
// 5 min, and starts anew for a container that has run for 10 min, and when the machine boots.
const (
	backOffFirst = 10 * time.Second
	backOffMax   = 5 * time.Minute
	backOffReset = 10 * time.Minute
)

// restartMax is the longest wait before a restart on this node, and restartFirst the first one: no longer than that.
func (p *planner) restartMax() time.Duration   { return cmp.Or(p.d.BackOffMax, backOffMax) }
func (p *planner) restartFirst() time.Duration { return min(backOffFirst, p.restartMax()) }

// backOffAfter is the wait after n failures in a row.
func backOffAfter(n int) time.Duration {
	d := backOffFirst
	for ; n > 1 && d < backOffMax; n-- {
		d *= 2
	}
	return min(d, backOffMax)
}

// restartWanted says whether an attempt that has ended is to be followed by another.
func (p *planner) restartWanted(u *unit, c *Container) bool {
	if s := u.facts.Stop; s != nil && s.Attempt == c.Attempt && (s.Reason == StopChanged || s.Reason == StopResize) {
		return true // it was ended to be replaced
	}
	if u.kind != Ephemeral && endedForAll(u, c) {
		return true
	}
	code := exitCode(u, c)
	switch u.kind {
	case Sidecar:
		return true
	case Ephemeral:
		return false
	}
	policy := policyOf(u.spec, p.pod, code)
	switch {
	case u.kind == Init && code == 0:
		return u.stale(c) // once more in each sandbox
	case policy == v1.ContainerRestartPolicyNever:
		return false
	case policy == v1.ContainerRestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// policyOf is the policy that decides upon an exit: a rule of the container that matches, else its own, else the pod's.
func policyOf(c *v1.Container, pod *v1.Pod, code int) v1.ContainerRestartPolicy {
	if r := matchingRule(c, code); r != nil && r.Action == v1.ContainerRestartRuleActionRestart {
		return v1.ContainerRestartPolicyAlways
	}
	if c.RestartPolicy != nil && *c.RestartPolicy != "" {
		return *c.RestartPolicy
	}
	switch pod.Spec.RestartPolicy {
	case v1.RestartPolicyNever:
		return v1.ContainerRestartPolicyNever
	case v1.RestartPolicyOnFailure:
		return v1.ContainerRestartPolicyOnFailure
	}
	return v1.ContainerRestartPolicyAlways
}

// unknownExit is what a container is said to have exited with when nobody saw it.
const unknownExit = 137

func exitCode(u *unit, c *Container) int {
	if c.State != Exited {
		return unknownExit
	}
	return c.ExitCode
}

// restart makes the attempt after c once its back-off is over.
func (p *planner) restart(u *unit, c *Container) {
	attempt := c.Attempt + 1
	if r := u.facts.Restart; r == nil || r.Attempt != attempt {
		if until, wait := p.backOff(u, c); wait {
			p.wakeAt(until)
			return
		}
		u.facts.Restart = &Restart{Attempt: attempt, BackOff: p.nextBackOff(u, c)}
		p.save(u)
	}
	p.make(u, attempt)
}

// backOff says until when the attempt after c must wait, and whether that is still to come.
// A time of exit in the future means that the clock was set back: then nothing waits.
func (p *planner) backOff(u *unit, c *Container) (until time.Time, wait bool) {
	r := u.facts.Restart
	if r == nil || r.BackOff == 0 || endsRow(c) || replaced(u, c) || c.FinishedAt.IsZero() || c.FinishedAt.After(p.now) {
		return time.Time{}, false
	}
	until = c.FinishedAt.Add(min(r.BackOff, p.restartMax()))
	return until, p.now.Before(until)
}

// waitsForRestart says whether u's newest attempt has ended in a row of failures, and which
// back-off its restart was given. It is true until the next attempt is there, so that what
// kubectl shows does not flicker when the wait is over.
func (p *planner) waitsForRestart(u *unit, c *Container) (time.Duration, bool) {
	r := u.facts.Restart
	if r == nil || !u.ended(c) || !u.restarts(c) || endsRow(c) || replaced(u, c) {
		return 0, false
	}
	if r.Attempt <= c.Attempt {
		return r.BackOff, r.BackOff > 0
	}
	// The restart has been decided and its own back-off is noted: before it came half of that.
	switch {
	case r.BackOff <= p.restartFirst():
		return 0, false
	case r.BackOff >= p.restartMax():
		return p.restartMax(), true
	}
	return r.BackOff / 2, true
}

// nextBackOff is the wait that follows if the attempt after c fails.
func (p *planner) nextBackOff(u *unit, c *Container) time.Duration {
	r := u.facts.Restart
	switch {
	case replaced(u, c):
		return 0
	case r == nil, r.BackOff == 0, endsRow(c):
		return p.restartFirst()
	}
	return min(2*r.BackOff, p.restartMax())
}

// endsRow says that c's end is no failure to add to those before it: it ran for long, or until the machine went down.
// However often that happens, a machine that boots starts its pods at once.
func endsRow(c *Container) bool {
	return c.EarlierBoot || !c.StartedAt.IsZero() && c.FinishedAt.Sub(c.StartedAt) >= backOffReset
}

func replaced(u *unit, c *Container) bool {
	s := u.facts.Stop
	return s != nil && s.Attempt == c.Attempt && (s.Reason == StopChanged || s.Reason == StopResize || s.Reason == StopAll)
}

// initFailed says that an init container has failed for good.
func (p *planner) initFailed() bool {
	if p.mainsStarted() {
		return false
	}
	for _, u := range p.units {
		c := u.newest()
		if u.kind == Init && c != nil && u.ended(c) && !u.restarts(c) && exitCode(u, c) != 0 {
			return true
		}
	}
	return false
}

// mainsDone says that every main container has ended for good.
func (p *planner) mainsDone() bool {
	for _, u := range p.units {
		if u.kind != Main {
			continue
		}
		if c := u.newest(); c == nil || !u.ended(c) || u.restarts(c) {
			return false
		}
	}
	return true
}

func (p *planner) anyRunning() bool {
	for _, c := range p.o.Containers {
		if c.State == Running {
			return true
		}
	}
	return false
}
