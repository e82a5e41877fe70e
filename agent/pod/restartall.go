package pod

import (
	v1 "k8s.io/api/core/v1"
)

// restartAll plans what a rule with the action RestartAllContainers asks for (KEP-5532): all that
// runs is killed at once, without grace and preStop hooks, and then every container starts anew
// from the first init container on, whatever its own policy says. Namespaces, address and volumes
// stay. It reports whether containers are still being ended.
func (p *planner) restartAll() bool {
	source := p.asksForAll()
	if source == nil {
		return false
	}
	for i := range p.o.Containers {
		if c := &p.o.Containers[i]; c.State == Running {
			p.kill(c)
		}
	}
	p.restarting = p.anyRunning()
	for _, u := range p.units {
		c := u.newest()
		if c == nil || u.kind == Ephemeral {
			continue
		}
		why := StopAll
		if u == source {
			why = StopAsked
		}
		u.facts.Stop = &ContainerStop{Attempt: c.Attempt, Reason: why, Deadline: p.now}
		if !p.restarting {
			u.facts.Floor = c.Attempt + 1 // init containers run again, and the rule is not asked again
		}
		p.save(u)
	}
	sortSteps(p.steps)
	return p.restarting
}

// asksForAll is the container whose end asks for the restart of all, or nil.
func (p *planner) asksForAll() *unit {
	if p.o.Sandbox == nil {
		return nil // everything starts anew anyway
	}
	for _, u := range p.units {
		c := u.newest()
		if u.kind == Ephemeral || c == nil || c.State != Exited || u.stale(c) {
			continue
		}
		if s := u.facts.Stop; s != nil && s.Attempt == c.Attempt && s.Reason != StopAsked {
			continue // the node ended it: that is not its own word
		}
		if r := matchingRule(u.spec, exitCode(u, c)); r != nil && r.Action == v1.ContainerRestartRuleActionRestartAllContainers {
			return u
		}
	}
	return nil
}

// matchingRule is the first rule of the container that an exit with this code meets, or nil.
func matchingRule(c *v1.Container, code int) *v1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		r := &c.RestartPolicyRules[i]
		if r.ExitCodes == nil {
			continue
		}
		in := false
		for _, v := range r.ExitCodes.Values {
			in = in || int(v) == code
		}
		if in == (r.ExitCodes.Operator == v1.ContainerRestartRuleOnExitCodesOpIn) {
			return r
		}
	}
	return nil
}

// endedForAll says that c ended, or counts as ended, so that all containers start anew.
func endedForAll(u *unit, c *Container) bool {
	s := u.facts.Stop
	return s != nil && s.Attempt == c.Attempt && (s.Reason == StopAll || s.Reason == StopAsked || s.Reason == StopLost)
}

// forgetAsked keeps a lost memory from being a reason to kill: ends from before it began ask for a restart of themselves alone.
func (p *planner) forgetAsked() {
	if !p.o.Facts.StartTime.IsZero() {
		return
	}
	for _, u := range p.units {
		c := u.newest()
		if u.kind == Ephemeral || c == nil || c.State != Exited {
			continue
		}
		if r := matchingRule(u.spec, exitCode(u, c)); r != nil && r.Action == v1.ContainerRestartRuleActionRestartAllContainers {
			u.facts.Stop = &ContainerStop{Attempt: c.Attempt, Reason: StopLost, Deadline: p.now}
			p.save(u)
		}
	}
}

// allRestarting is the condition that shows a restart of all containers. It is left out of pods that never had one.
func (p *planner) allRestarting() (v1.PodCondition, bool) {
	c := v1.PodCondition{Type: v1.AllContainersRestarting, Status: v1.ConditionFalse}
	if p.restarting {
		c.Status = v1.ConditionTrue
		return c, true
	}
	for _, list := range [][]v1.PodCondition{p.d.Previous.Conditions, p.pod.Status.Conditions} {
		for _, have := range list {
			if have.Type == c.Type {
				return c, true
			}
		}
	}
	for _, u := range p.units {
		if s := u.facts.Stop; s != nil && s.Reason == StopAsked {
			return c, true
		}
	}
	return c, false
}
