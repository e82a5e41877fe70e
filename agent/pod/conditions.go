package pod

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conditions are those that the node owns, in the order in which kubectl shows them.
func (p *planner) conditions(s *v1.PodStatus) []v1.PodCondition {
	list := []v1.PodCondition{
		p.readyToStart(),
		p.initializedCondition(s),
		{Type: v1.PodReady},
		p.containersReady(s),
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	}
	list[2] = p.readyCondition(list[3])
	if c, ok := p.allRestarting(); ok {
		list = append(list, c)
	}
	if f := p.facts.Failed; f != nil && f.Disruption != "" {
		list = append(list, v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue, Reason: f.Disruption, Message: f.Message})
	}
	list = append(list, p.resizeConditions()...)
	for i := range list {
		list[i].ObservedGeneration = cmp.Or(list[i].ObservedGeneration, p.pod.Generation)
		list[i].LastTransitionTime = p.transition(list[i], s)
	}
	return list
}

// transition keeps the time of a condition that did not change.
func (p *planner) transition(c v1.PodCondition, s *v1.PodStatus) metav1.Time {
	for _, list := range [][]v1.PodCondition{p.d.Previous.Conditions, p.pod.Status.Conditions} {
		for _, prev := range list {
			if prev.Type == c.Type && prev.Status == c.Status && !prev.LastTransitionTime.IsZero() {
				return prev.LastTransitionTime
			}
		}
	}
	if t := p.since(c, s); !t.IsZero() && !t.After(p.now) {
		return metav1.Time{Time: t}
	}
	return metav1.Time{Time: p.now.Truncate(time.Second)}
}

// since reads the time of a transition off the containers where that can be done: it is
// then the same after a restart of the agent, whatever was reported before.
func (p *planner) since(c v1.PodCondition, s *v1.PodStatus) time.Time {
	if c.Status != v1.ConditionTrue {
		return time.Time{}
	}
	var latest time.Time
	switch c.Type {
	case v1.PodScheduled:
		return p.facts.StartTime
	case v1.PodInitialized:
		latest = p.facts.StartTime
		for _, cs := range s.InitContainerStatuses {
			if t := cs.State.Terminated; t != nil && t.FinishedAt.After(latest) {
				latest = t.FinishedAt.Time
			}
		}
	}
	return latest
}

func (p *planner) readyToStart() v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionFalse}
	if p.o.Sandbox != nil && (p.attached() || p.pod.Spec.HostNetwork) {
		c.Status = v1.ConditionTrue
	}
	return c
}

func (p *planner) initializedCondition(s *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	if s.Phase == v1.PodSucceeded {
		c.Reason = "PodCompleted"
		return c
	}
	if p.initialized() {
		return c
	}
	var incomplete []string
	for _, u := range p.units {
		if u.kind == Init && !u.initDone() || u.kind == Sidecar && !u.started() {
			incomplete = append(incomplete, u.spec.Name)
		}
	}
	c.Status, c.Reason = v1.ConditionFalse, "ContainersNotInitialized"
	c.Message = fmt.Sprintf("containers with incomplete status: %s", brackets(incomplete))
	return c
}

func (p *planner) containersReady(s *v1.PodStatus) v1.PodCondition {
	c := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionFalse}
	switch s.Phase {
	case v1.PodSucceeded:
		c.Reason = "PodCompleted"
		return c
	case v1.PodFailed:
		c.Reason = "PodFailed"
		return c
	}
	var unready []string
	for _, u := range p.units {
		if u.kind != Main && u.kind != Sidecar {
			continue
		}
		if n := u.newest(); n == nil || n.State != Running || !u.ready(n) {
			unready = append(unready, u.spec.Name)
		}
	}
	if len(unready) == 0 {
		c.Status = v1.ConditionTrue
		return c
	}
	c.Reason = "ContainersNotReady"
	c.Message = fmt.Sprintf("containers with unready status: %s", brackets(unready))
	return c
}

// readyCondition adds the readiness gates to what the containers say.
func (p *planner) readyCondition(containers v1.PodCondition) v1.PodCondition {
	c := containers
	c.Type = v1.PodReady
	if c.Status != v1.ConditionTrue {
		return c
	}
	var missing []string
	for _, gate := range p.pod.Spec.ReadinessGates {
		state := ""
		for _, have := range p.pod.Status.Conditions {
			if have.Type == gate.ConditionType {
				state = string(have.Status)
			}
		}
		switch state {
		case string(v1.ConditionTrue):
		case "":
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		default:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %s", gate.ConditionType, state))
		}
	}
	if len(missing) > 0 {
		c.Status, c.Reason, c.Message = v1.ConditionFalse, "ReadinessGatesNotReady", strings.Join(missing, ", ")
	}
	return c
}

func brackets(names []string) string { return "[" + strings.Join(names, " ") + "]" }
