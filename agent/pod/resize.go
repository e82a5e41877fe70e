package pod

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// A resize in place goes through these states (KEP-1287). The first two are decided here, the rest is carried out by steps;
// what was granted is remembered before anything is done, so that a killed agent goes on where it was.
//
//	asked ──▶ infeasible   can never be granted here: shown until the spec changes
//	  │  └──▶ deferred     no room now: asked again when others may have gone
//	  ▼
//	granted ──▶ pod's cgroup loosened ──▶ containers updated or restarted ──▶ pod's cgroup settled

// Resize is a resize that was granted and is being carried out.
type Resize struct {
	Generation int64 `json:"gen"` // of the pod, when it was granted
}

// deferredEvery is how often room is looked for again. Nothing on a node says that another pod has let go of some.
const deferredEvery = 10 * time.Second

// grant decides on the resources of a pod and puts those that it was granted into p.pod.
func (p *planner) grant() {
	switch asked := p.pod; {
	case p.facts.Allocated == nil:
		p.facts.Allocated = allocationOf(asked)
	case p.facts.Finished != "":
		p.facts.Resize = nil
	case AsksResize(asked, p.facts) && p.facts.Failed == nil:
		if p.pending = p.judge(asked, Granted(asked, p.facts.Allocated)); p.pending != nil {
			if p.pending.Reason == v1.PodReasonDeferred {
				p.wakeAt(p.now.Add(deferredEvery))
			}
			break
		}
		p.facts.Allocated, p.facts.Resize = allocationOf(asked), &Resize{Generation: asked.Generation}
	}
	p.pod = Granted(p.pod, p.facts.Allocated)
}

// judge is why a resize is not granted; nil where it is.
func (p *planner) judge(asked, granted *v1.Pod) *v1.PodCondition {
	refuse := func(reason, format string, args ...any) *v1.PodCondition {
		return &v1.PodCondition{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	if Static(asked) {
		return refuse(v1.PodReasonInfeasible, "In-place resize of static-pods is not supported")
	}
	if p.d.Room == nil {
		return refuse(v1.PodReasonDeferred, "What the node can grant is not known yet")
	}
	if p.d.Room.Swap && memoryInPlace(asked, granted) {
		return refuse(v1.PodReasonInfeasible, "In-place resize of containers with swap is not supported")
	}
	want, _ := Resources(asked)
	have, _ := Resources(granted)
	for _, check := range []struct {
		name   v1.ResourceName
		amount func(v1.ResourceList) int64
	}{
		{v1.ResourceCPU, func(l v1.ResourceList) int64 { return l.Cpu().MilliValue() }},
		{v1.ResourceMemory, func(l v1.ResourceList) int64 { return l.Memory().Value() }},
	} {
		requested, capacity, used := check.amount(want), check.amount(p.d.Room.Allocatable), check.amount(p.d.Room.Taken)
		switch {
		case requested <= check.amount(have): // asks for no more than it has
		case requested > capacity:
			return refuse(v1.PodReasonInfeasible, "Node didn't have enough capacity: %s, requested: %d, capacity: %d", check.name, requested, capacity)
		case requested+used > capacity:
			return refuse(v1.PodReasonDeferred, "Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", check.name, requested, used, capacity)
		}
	}
	return nil
}

// memoryInPlace says that the memory of a container of a burstable pod, which may swap, is to change without a restart.
func memoryInPlace(asked, granted *v1.Pod) bool {
	if QOSClass(asked) != v1.PodQOSBurstable {
		return false
	}
	for _, list := range [][2][]v1.Container{{asked.Spec.InitContainers, granted.Spec.InitContainers}, {asked.Spec.Containers, granted.Spec.Containers}} {
		for i := range list[0] {
			c := &list[0][i]
			changed := slices.Contains(changedCompute(c.Resources, list[1][i].Resources), v1.ResourceMemory)
			if changed && !restartsFor(c, []v1.ResourceName{v1.ResourceMemory}) {
				return true
			}
		}
	}
	return false
}

// restartsFor says that a change of one of these resources wants the container to start anew.
func restartsFor(c *v1.Container, changed []v1.ResourceName) bool {
	return slices.ContainsFunc(c.ResizePolicy, func(r v1.ContainerResizePolicy) bool {
		return r.RestartPolicy == v1.RestartContainer && slices.Contains(changed, r.ResourceName)
	})
}

// misfit lists the resources in which an attempt differs from what was granted. One of which it is not known what it was
// given is left alone, unless a resize is under way.
func (p *planner) misfit(u *unit, c *Container) []v1.ResourceName {
	if c.Resources == nil {
		if p.facts.Resize == nil || u.kind == Ephemeral {
			return nil
		}
		return changedCompute(v1.ResourceRequirements{}, u.spec.Resources)
	}
	return changedCompute(*c.Resources, u.spec.Resources)
}

// actual is what a running attempt has: what it was given, with those parts of the spec that never change.
func (p *planner) actual(u *unit, c *Container) *v1.ResourceRequirements {
	if c.Resources == nil {
		return u.spec.Resources.DeepCopy()
	}
	out := withCompute(*u.spec.Resources.DeepCopy(), *c.Resources)
	return &out
}

// restartsToResize says that a running attempt must end so that the next one has other resources.
func (p *planner) restartsToResize(u *unit, c *Container) bool {
	changed := p.misfit(u, c)
	return len(changed) > 0 && restartsFor(u.spec, changed)
}

// update notes that a running attempt is to be given other resources.
func (p *planner) update(u *unit, c *Container) {
	stops := u.facts.Stop != nil && u.facts.Stop.Attempt == c.Attempt
	if p.facts.Resize != nil && !stops && len(p.misfit(u, c)) > 0 {
		p.updates = append(p.updates, UpdateContainer{ID: c.ID, Name: c.Name, Attempt: c.Attempt})
	}
}

// carryOut adds what a granted resize still needs: limits of the pod's group that leave room for both the old and the new,
// then the containers, then the group's final limits.
func (p *planner) carryOut() {
	r := p.facts.Resize
	if r == nil {
		return
	}
	if len(p.updates) > 0 || p.restartsUnderWay() {
		if p.o.Loosened != r.Generation {
			p.add(LoosenCgroup{})
		}
		p.steps = append(p.steps, p.updates...)
		return
	}
	if p.o.Settled != r.Generation {
		p.add(SettleCgroup{})
		return
	}
	p.facts.Resize = nil
}

// restartsUnderWay says that a container that ended for the resize does not run again yet.
func (p *planner) restartsUnderWay() bool {
	return slices.ContainsFunc(p.units, func(u *unit) bool {
		s, c := u.facts.Stop, u.newest()
		return s != nil && s.Reason == StopResize && (c == nil || c.Attempt == s.Attempt || c.State == Created)
	})
}

// resizeConditions show a resize that waits, and one that is being carried out.
func (p *planner) resizeConditions() []v1.PodCondition {
	var out []v1.PodCondition
	if p.pending != nil {
		out = append(out, *p.pending)
	}
	if p.facts.Resize != nil && !p.over() {
		c := v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue, ObservedGeneration: p.facts.Resize.Generation}
		if p.o.ResizeError != "" {
			c.Reason, c.Message = v1.PodReasonError, p.o.ResizeError
		}
		out = append(out, c)
	}
	return out
}
