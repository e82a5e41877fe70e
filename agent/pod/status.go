package pod

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is what to report. It is computed from the same input as the steps and says what
// is, not what the steps are about to change.
func (p *planner) status() v1.PodStatus {
	prev := &p.d.Previous
	s := v1.PodStatus{
		ObservedGeneration: p.pod.Generation,
		NominatedNodeName:  prev.NominatedNodeName,
		QOSClass:           cmp.Or(p.pod.Status.QOSClass, QOSClass(p.pod)),
		StartTime:          &metav1.Time{Time: p.facts.StartTime},
		Phase:              p.phase(false),
	}
	if f := p.facts.Failed; f != nil && s.Phase == v1.PodFailed {
		s.Reason, s.Message = f.Reason, f.Message
	} else if s.Phase == v1.PodFailed {
		s.Reason, s.Message = prev.Reason, prev.Message
	}
	if f := p.facts.Failed; f != nil && f.Rejected && len(p.o.Containers) == 0 {
		return s // as Kubernetes has it: nothing but why
	}
	for _, u := range p.units {
		cs := p.containerStatus(u)
		switch u.kind {
		case Main:
			s.ContainerStatuses = append(s.ContainerStatuses, cs)
		case Ephemeral:
			s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, cs)
		default:
			s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
		}
	}
	if r := p.pod.Spec.Resources; r != nil {
		s.Resources = r.DeepCopy()
		s.AllocatedResources = r.Requests.DeepCopy()
	}
	p.addresses(&s)
	s.Conditions = p.conditions(&s)
	return s
}

// addresses sets host and pod addresses. A pod that has ended keeps the ones it had.
func (p *planner) addresses(s *v1.PodStatus) {
	for _, ip := range p.d.HostIPs {
		s.HostIPs = append(s.HostIPs, v1.HostIP{IP: ip})
	}
	if len(s.HostIPs) > 0 {
		s.HostIP = s.HostIPs[0].IP
	}
	switch {
	case p.pod.Spec.HostNetwork:
		for _, ip := range p.d.HostIPs {
			s.PodIPs = append(s.PodIPs, v1.PodIP{IP: ip})
		}
	case p.o.Sandbox != nil && len(p.o.Sandbox.IPs) > 0:
		for _, ip := range p.o.Sandbox.IPs {
			s.PodIPs = append(s.PodIPs, v1.PodIP{IP: ip})
		}
	case p.over(), p.anyRunning(): // running: what CNI remembers was lost, the address was not
		s.PodIPs = slices.Clone(p.d.Previous.PodIPs)
	}
	if len(s.PodIPs) > 0 {
		s.PodIP = s.PodIPs[0].IP
	}
}

// over says that no container of this pod will run any more.
func (p *planner) over() bool {
	return p.facts.Finished != "" || p.pod.DeletionTimestamp != nil && !p.anyRunning()
}

// phase sums the containers up. Once final is set, or the pod is over, it is Succeeded or Failed.
func (p *planner) phase(final bool) v1.PodPhase {
	if p.facts.Finished != "" {
		return p.facts.Finished
	}
	final = final || p.over()
	if p.facts.Failed != nil && final {
		return v1.PodFailed
	}
	var waiting, running, failed, succeeded int
	for _, u := range p.units {
		code, gone := p.ending(u)
		c := u.newest()
		switch {
		case c != nil && c.State == Running && (u.kind == Main || u.kind == Sidecar):
			if u.shownRunning(c) {
				running++
			} else if u.kind == Main {
				waiting++
			}
		case c != nil && c.State == Running:
		case u.kind == Ephemeral, u.kind == Sidecar:
		case gone && code == 0:
			if u.kind == Main {
				succeeded++
			}
		case gone:
			failed++
		default:
			waiting++
		}
	}
	if final {
		if failed > 0 || waiting > 0 {
			return v1.PodFailed
		}
		return v1.PodSucceeded
	}
	switch {
	case !p.initialized():
		return v1.PodPending
	case waiting > 0 && !p.anyMainEnded() && running == 0:
		return v1.PodPending
	case waiting > 0:
		return p.waitingPhase()
	}
	return v1.PodRunning
}

// waitingPhase is Pending while a main container has never been started, as kubectl users know it.
func (p *planner) waitingPhase() v1.PodPhase {
	for _, u := range p.units {
		if u.kind != Main {
			continue
		}
		if c := u.newest(); (c == nil || c.State == Created && len(u.attempts) == 1) && u.facts.Last == nil {
			return v1.PodPending
		}
	}
	return v1.PodRunning
}

func (p *planner) anyMainEnded() bool {
	for _, u := range p.units {
		c := u.newest()
		if _, gone := p.ending(u); u.kind == Main && (gone || c != nil && c.Attempt > 0) {
			return true
		}
	}
	return false
}

// ending is how the newest attempt of u ended, observed or remembered.
func (p *planner) ending(u *unit) (code int, gone bool) {
	if c := u.newest(); c != nil {
		if !u.ended(c) {
			return 0, false
		}
		return exitCode(u, c), true
	}
	if l := u.facts.Last; l != nil {
		return l.ExitCode, true
	}
	return 0, false
}

// initialized says that the init containers have done their part.
func (p *planner) initialized() bool {
	if p.mainsStarted() || p.facts.Finished == v1.PodSucceeded {
		return true
	}
	for _, u := range p.units {
		switch u.kind {
		case Init:
			last := u.facts.Last
			if !u.initDone() && (u.newest() != nil || last == nil || last.ExitCode != 0) {
				return false
			}
		case Sidecar:
			if !u.started() && !p.over() {
				return false
			}
		}
	}
	return true
}

// QOSClass is the class that the pod's requests and limits put it in.
func QOSClass(pod *v1.Pod) v1.PodQOSClass {
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		return qosOf(*r)
	}
	class := v1.PodQOSClass("")
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			c := qosOf(list[i].Resources)
			if class == "" {
				class = c
			}
			if class != c {
				return v1.PodQOSBurstable
			}
		}
	}
	return cmp.Or(class, v1.PodQOSBestEffort)
}

func qosOf(r v1.ResourceRequirements) v1.PodQOSClass {
	requested, guaranteed := false, true
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		request, limit := r.Requests[name], r.Limits[name]
		requested = requested || !request.IsZero() || !limit.IsZero()
		if limit.IsZero() || !request.IsZero() && request.Cmp(limit) != 0 {
			guaranteed = false
		}
	}
	switch {
	case !requested:
		return v1.PodQOSBestEffort
	case guaranteed:
		return v1.PodQOSGuaranteed
	}
	return v1.PodQOSBurstable
}
