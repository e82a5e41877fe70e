package pod

import (
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// keepUp brings one container to running and keeps it there as far as its policy wants that.
func (p *planner) keepUp(u *unit) {
	if len(u.attempts) > 1 {
		for i := range u.attempts[1:] {
			if c := &u.attempts[i+1]; c.State == Running {
				p.kill(c) // never two at once
				return
			}
		}
	}
	c := u.newest()
	switch {
	case c == nil:
		p.make(u, u.nextAttempt())
	case c.State == Running:
		p.tend(u, c)
	case !u.ended(c):
		p.startCreated(u, c)
	case u.restarts(c):
		p.restart(u, c)
	}
}

// startCreated starts an attempt that exists, unless its definition has changed since.
func (p *planner) startCreated(u *unit, c *Container) {
	if changed(u, c) || c.Resources != nil && len(p.misfit(u, c)) > 0 {
		p.add(RemoveContainer{ID: c.ID, Name: c.Name, Attempt: c.Attempt})
		return
	}
	if p.troubled(u, c.Attempt) {
		return
	}
	p.needsInfra = true
	p.starts = append(p.starts, StartContainer{Name: c.Name, Kind: u.kind, Attempt: c.Attempt, ID: c.ID})
}

// make creates and starts an attempt once its image is present.
func (p *planner) make(u *unit, attempt int) {
	if p.troubled(u, attempt) {
		return
	}
	if attempt > 0 && u.facts.Next <= attempt {
		u.facts.Next = attempt + 1
		p.save(u)
	}
	p.needsInfra = true
	if have := p.haveImage(u, attempt); !p.haveVolumeImages(u) || !have {
		return
	}
	p.creates = append(p.creates, CreateContainer{Name: u.spec.Name, Kind: u.kind, Attempt: attempt, NeedsIP: namesIP(u.spec)})
	p.starts = append(p.starts, StartContainer{Name: u.spec.Name, Kind: u.kind, Attempt: attempt})
}

// namesIP says whether the container's environment holds the pod's address.
func namesIP(c *v1.Container) bool {
	return slices.ContainsFunc(c.Env, func(e v1.EnvVar) bool {
		return e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && strings.HasPrefix(e.ValueFrom.FieldRef.FieldPath, "status.podIP")
	})
}

// haveImage says whether creation may be planned: the image is present, or this plan pulls it.
func (p *planner) haveImage(u *unit, attempt int) bool {
	im := p.o.Images[u.spec.Name]
	if im.Ref == u.spec.Image && im.Attempt == attempt {
		switch im.State {
		case ImagePresent:
			return true
		default:
			if p.waitsForImage(im, u.spec.ImagePullPolicy) {
				return false
			}
		}
	}
	policy := u.spec.ImagePullPolicy
	if policy == "" {
		policy = v1.PullIfNotPresent
	}
	p.pulls = append(p.pulls, PullImage{Container: u.spec.Name, Attempt: attempt, Image: u.spec.Image, Policy: policy})
	return true
}

// waitsForImage says that the image is being pulled, or that a failure to pull it is being waited out.
func (p *planner) waitsForImage(im Image, policy v1.PullPolicy) bool {
	if im.State != ImageFailed {
		return im.State == ImagePulling
	}
	wait := backOffAfter(im.Failures)
	if policy == v1.PullNever {
		wait = min(wait, neverPullMax)
	}
	until := im.FailedAt.Add(wait)
	if !p.now.Before(until) || im.FailedAt.After(p.now) {
		return false
	}
	p.wakeAt(until)
	return true
}

// neverPullMax bounds the wait for an image that somebody is to bring to the machine: looking for it costs no registry anything.
const neverPullMax = 30 * time.Second

// troubled says that creating or starting this attempt did not work a moment ago.
func (p *planner) troubled(u *unit, attempt int) bool {
	t, ok := p.o.Troubles[u.spec.Name]
	if !ok || t.Attempt != attempt || t.At.After(p.now) {
		return false
	}
	until := t.At.Add(min(backOffAfter(t.Count), troubleMax))
	if !p.now.Before(until) {
		return false
	}
	p.wakeAt(until)
	return true
}

// tend looks after a running container.
func (p *planner) tend(u *unit, c *Container) {
	switch {
	case u.facts.Stop != nil && u.facts.Stop.Attempt == c.Attempt:
		p.stopFor(u, c, u.facts.Stop.Reason)
	case changed(u, c):
		p.stopFor(u, c, StopChanged)
	case p.restartsToResize(u, c):
		p.stopFor(u, c, StopResize)
	case c.Live.PostStart == HookFailed:
		p.stopFor(u, c, StopHook)
	case !u.startupPassed(c) && c.Live.Startup == Failure:
		p.stopFor(u, c, StopStartup)
	case u.started() && u.spec.LivenessProbe != nil && c.Live.Liveness == Failure:
		p.stopFor(u, c, StopLiveness)
	case !u.postStartOver(c):
		if c.Live.PostStart == HookIdle {
			p.add(RunHook{ID: c.ID, Name: c.Name, Hook: PostStart})
		}
	default:
		p.note(u, c)
	}
	p.update(u, c)
}

// note remembers what hooks and probes have found, so that a restart of the agent neither
// runs a hook twice nor flips a condition.
func (p *planner) note(u *unit, c *Container) {
	f := u.facts
	if u.spec.Lifecycle != nil && u.spec.Lifecycle.PostStart != nil && c.Live.PostStart == HookDone {
		f.PostStarted = c.ID
	}
	if u.spec.StartupProbe != nil && c.Live.Startup == Success {
		f.Started = c.ID
	}
	if u.spec.ReadinessProbe != nil {
		switch c.Live.Readiness {
		case Success:
			f.Ready = c.ID
		case Failure:
			f.Ready = ""
		}
	}
	if f != u.facts {
		u.facts = f
		p.save(u)
	}
}

// probes lists what should be probed now.
func (p *planner) probes() []ProbeTarget {
	if p.d.Removed || p.facts.Finished != "" {
		return nil
	}
	var out []ProbeTarget
	for _, u := range p.units {
		c := u.newest()
		if c == nil || c.State != Running || u.kind == Init || u.kind == Ephemeral || !u.postStartOver(c) {
			continue
		}
		t := ProbeTarget{ContainerID: c.ID, Container: c.Name, StartedAt: c.StartedAt, Ports: u.spec.Ports}
		stopping := p.facts.Stop != nil || u.facts.Stop != nil && u.facts.Stop.Attempt == c.Attempt
		if !u.startupPassed(c) {
			if t.Kind, t.Probe = Startup, u.spec.StartupProbe; !stopping {
				out = append(out, t)
			}
			continue
		}
		if t.Probe = u.spec.ReadinessProbe; t.Probe != nil {
			t.Kind = Readiness
			out = append(out, t)
		}
		if t.Probe = u.spec.LivenessProbe; t.Probe != nil && !stopping {
			t.Kind = Liveness
			out = append(out, t)
		}
	}
	return out
}

// troubleMax bounds the wait after a container could not be made: what is missing is often about to be created.
const troubleMax = time.Minute
