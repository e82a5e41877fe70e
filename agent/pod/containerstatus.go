package pod

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// runtimeScheme comes before a container's id in status.
const runtimeScheme = "containerd://"

// containerStatus reports one container of the spec.
func (p *planner) containerStatus(u *unit) v1.ContainerStatus {
	s := v1.ContainerStatus{Name: u.spec.Name, Image: u.spec.Image, Started: new(bool)}
	c := u.newest()
	if c == nil {
		p.absentStatus(u, &s)
		return s
	}
	s.RestartCount = int32(c.Attempt)
	if c.Image != "" {
		s.Image = c.Image
	}
	s.ImageID = c.ImageID
	if c.State != Created {
		s.ContainerID = runtimeScheme + c.ID
	}
	older := p.olderState(u)
	switch {
	case c.State == Running && !u.shownRunning(c):
		if s.State.Waiting = p.waitingFor(u, c.Attempt); c.Live.PostStart == HookFailed {
			s.State.Waiting = &v1.ContainerStateWaiting{Reason: "PostStartHookError"}
		}
		s.LastTerminationState = older
	case c.State == Running:
		s.State.Running = &v1.ContainerStateRunning{StartedAt: metav1.Time{Time: c.StartedAt}}
		s.Started = boolPointer(u.started())
		s.Ready = u.kind != Init && u.kind != Ephemeral && u.ready(c)
		s.LastTerminationState = older
		s.Resources = p.actual(u, c)
		s.AllocatedResources = u.spec.Resources.Requests.DeepCopy()
	case !u.ended(c):
		s.State.Waiting = p.waitingFor(u, c.Attempt)
		s.LastTerminationState = older
	default:
		p.endedStatus(u, c, &s, older)
	}
	s.VolumeMounts = mountStatuses(u.spec.VolumeMounts, p.o.RecursiveReadOnly)
	p.showImages(u, s.VolumeMounts)
	if l := u.spec.Lifecycle; l != nil {
		s.StopSignal = l.StopSignal // where none is asked for, the image's counts and is not shown
	}
	if c.User != nil {
		s.User = &v1.ContainerUser{Linux: c.User.DeepCopy()}
	}
	return s
}

// endedStatus reports a container whose newest attempt has ended.
func (p *planner) endedStatus(u *unit, c *Container, s *v1.ContainerStatus, older v1.ContainerState) {
	now := terminated(u, c)
	s.Ready = u.kind == Init && c.State == Exited && c.ExitCode == 0
	if w := p.waitingToRestart(u, c); w != nil {
		s.State.Waiting = w
		s.LastTerminationState.Terminated = now
		return
	}
	s.State.Terminated = now
	s.LastTerminationState = older
}

// absentStatus reports a container of which no attempt exists.
func (p *planner) absentStatus(u *unit, s *v1.ContainerStatus) {
	if l := u.facts.Last; l != nil {
		t := lastTerminated(l)
		s.RestartCount, s.ImageID, s.ContainerID = int32(l.Attempt), l.ImageID, t.ContainerID
		if l.Image != "" {
			s.Image = l.Image
		}
		s.Ready = u.kind == Init && l.ExitCode == 0
		s.State.Terminated = t
		return
	}
	if seen := u.previous; seen != nil && seen.ContainerID != "" {
		s.RestartCount, s.ImageID, s.Image = seen.RestartCount, seen.ImageID, seen.Image
		lost := seen.State.Terminated.DeepCopy()
		if lost == nil {
			lost = &v1.ContainerStateTerminated{
				ExitCode: unknownExit, Reason: "ContainerStatusUnknown", ContainerID: seen.ContainerID,
				Message: "The container could not be located when the pod was looked at",
			}
		}
		if p.over() {
			s.ContainerID, s.State.Terminated = seen.ContainerID, lost
			return
		}
		s.LastTerminationState.Terminated = lost
	}
	s.State.Waiting = p.waitingFor(u, u.nextAttempt())
}

// olderState is how the attempt before the newest ended.
func (p *planner) olderState(u *unit) v1.ContainerState {
	if len(u.attempts) > 1 && u.attempts[1].State == Exited {
		return v1.ContainerState{Terminated: terminated(u, &u.attempts[1])}
	}
	if l := u.facts.Last; l != nil && len(u.attempts) > 0 && l.Attempt < u.attempts[0].Attempt {
		return v1.ContainerState{Terminated: lastTerminated(l)}
	}
	if prev := u.previous; prev != nil && len(u.attempts) == 1 && u.attempts[0].Attempt > 0 {
		return *prev.LastTerminationState.DeepCopy()
	}
	return v1.ContainerState{}
}

// waitingToRestart is why an ended container that is to run again does not, or nil.
func (p *planner) waitingToRestart(u *unit, c *Container) *v1.ContainerStateWaiting {
	if p.over() || p.facts.Failed != nil || p.pod.DeletionTimestamp != nil || !u.restarts(c) {
		return nil
	}
	if d, ok := p.waitsForRestart(u, c); ok {
		return &v1.ContainerStateWaiting{
			Reason: "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				shortDuration(d), u.spec.Name, p.pod.Name, p.pod.Namespace, p.pod.UID),
		}
	}
	return p.hindrance(u, c.Attempt+1)
}

// waitingFor is why an attempt that should run does not.
func (p *planner) waitingFor(u *unit, attempt int) *v1.ContainerStateWaiting {
	if w := p.hindrance(u, attempt); w != nil {
		return w
	}
	if len(p.pod.Spec.InitContainers) > 0 { // for every kind: kubectl shows another reason of an init container as an error
		return &v1.ContainerStateWaiting{Reason: "PodInitializing"}
	}
	return &v1.ContainerStateWaiting{Reason: "ContainerCreating"}
}

// hindrance is what went wrong with this attempt before it could run, or nil.
func (p *planner) hindrance(u *unit, attempt int) *v1.ContainerStateWaiting {
	if t, ok := p.o.Troubles[u.spec.Name]; ok && t.Attempt == attempt {
		return &v1.ContainerStateWaiting{Reason: t.Reason, Message: t.Message}
	}
	if im := p.o.Images[u.spec.Name]; im.Ref == u.spec.Image && im.Attempt == attempt {
		if w := p.imageHindrance(im, u.spec.Image); w != nil {
			return w
		}
	}
	return p.volumeHindrance(u)
}

// imageHindrance is why an image could not be pulled, or nil.
func (p *planner) imageHindrance(im Image, ref string) *v1.ContainerStateWaiting {
	if im.Failures == 0 || im.State == ImagePresent {
		return nil
	}
	// The failure itself is shown at first; from the second on, that it is being waited out.
	// ErrImageNeverPull and InvalidImageName are not waited out and keep their names.
	backsOff := im.Reason == "ErrImagePull" || im.Reason == "RegistryUnavailable" || im.Reason == ""
	if !backsOff || im.Failures == 1 && p.now.Before(im.FailedAt.Add(firstFailureShown)) {
		p.wakeAtAfter(im.FailedAt.Add(firstFailureShown), backsOff)
		return &v1.ContainerStateWaiting{Reason: im.Reason, Message: im.Message}
	}
	return &v1.ContainerStateWaiting{
		Reason:  "ImagePullBackOff",
		Message: fmt.Sprintf("Back-off pulling image %q: %s: %s", ref, im.Reason, im.Message),
	}
}

// firstFailureShown is how long ErrImagePull is shown before ImagePullBackOff takes its place.
const firstFailureShown = 5 * time.Second

func (p *planner) wakeAtAfter(t time.Time, wanted bool) {
	if wanted {
		p.wakeAt(t)
	}
}

// terminated reports one attempt that has ended.
func terminated(u *unit, c *Container) *v1.ContainerStateTerminated {
	if l := u.facts.Last; l != nil && l.ID == c.ID {
		return lastTerminated(l) // its last words may be gone from the disk by now
	}
	t := &v1.ContainerStateTerminated{
		ExitCode: int32(exitCode(u, c)), Signal: int32(c.Signal), Reason: exitReason(c), Message: c.Message,
		ContainerID: runtimeScheme + c.ID,
	}
	if c.State != Exited {
		t.Reason, t.Signal = "ContainerStatusUnknown", 0
		t.Message = "The container was made before its pod's namespaces were lost; whether it ran is not known"
		return t
	}
	if !c.StartedAt.IsZero() {
		t.StartedAt = metav1.Time{Time: c.StartedAt}
	}
	if !c.FinishedAt.IsZero() {
		t.FinishedAt = metav1.Time{Time: c.FinishedAt}
	}
	return t
}

func lastTerminated(l *LastRun) *v1.ContainerStateTerminated {
	t := &v1.ContainerStateTerminated{
		ExitCode: int32(l.ExitCode), Signal: int32(l.Signal), Reason: l.Reason, Message: l.Message,
		ContainerID: runtimeScheme + l.ID,
	}
	if !l.StartedAt.IsZero() {
		t.StartedAt = metav1.Time{Time: l.StartedAt}
	}
	if !l.FinishedAt.IsZero() {
		t.FinishedAt = metav1.Time{Time: l.FinishedAt}
	}
	return t
}

// exitReason is the word that kubectl shows for an end.
func exitReason(c *Container) string {
	switch {
	case c.OOMKilled:
		return "OOMKilled"
	case c.Reason != "":
		return c.Reason
	case c.ExitCode == 0:
		return "Completed"
	}
	return "Error"
}

func mountStatuses(mounts []v1.VolumeMount, recursive bool) []v1.VolumeMountStatus {
	var out []v1.VolumeMountStatus
	for _, m := range mounts {
		s := v1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := v1.RecursiveReadOnlyDisabled
			if r := m.RecursiveReadOnly; r != nil && (*r == v1.RecursiveReadOnlyEnabled || *r == v1.RecursiveReadOnlyIfPossible && recursive) {
				mode = v1.RecursiveReadOnlyEnabled
			}
			s.RecursiveReadOnly = &mode
		}
		out = append(out, s)
	}
	return out
}

// shortDuration writes 1m20s and 5m0s as Kubernetes does.
func shortDuration(d time.Duration) string { return d.Round(time.Second).String() }

func boolPointer(b bool) *bool { return &b }
