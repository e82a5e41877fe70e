package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the conditions, as kubectl rollout status and others read them.
const (
	reasonAvailable   = "MinimumReplicasAvailable"
	reasonUnavailable = "MinimumReplicasUnavailable"
	reasonComplete    = "NewReplicaSetAvailable"
	reasonCreated     = "NewReplicaSetCreated"
	reasonFound       = "FoundNewReplicaSet"
	reasonUpdated     = "ReplicaSetUpdated"
	reasonCreateError = "ReplicaSetCreateError"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"
)

// counts is the status but for its conditions.
func (p *planner) counts() appsv1.DeploymentStatus {
	d := p.Deployment
	out := appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation,
		CollisionCount:     d.Status.CollisionCount,
	}
	var terminating int32
	known := false
	for _, s := range p.all() {
		out.Replicas += s.Status.Replicas
		out.ReadyReplicas += s.Status.ReadyReplicas
		out.AvailableReplicas += s.Status.AvailableReplicas
		if s.Status.TerminatingReplicas != nil {
			terminating += *s.Status.TerminatingReplicas
			known = true
		}
	}
	if known {
		out.TerminatingReplicas = &terminating
	}
	if p.fresh != nil {
		out.UpdatedReplicas = p.fresh.Status.Replicas
	}
	out.UnavailableReplicas = max(0, total(p.all())-out.AvailableReplicas)
	return out
}

// complete is true once every pod is of the present template and available, and no other is left.
func complete(d *appsv1.Deployment, s appsv1.DeploymentStatus) bool {
	n := replicas(d)
	return s.UpdatedReplicas == n && s.Replicas == n && s.AvailableReplicas == n && s.ObservedGeneration >= d.Generation
}

// advanced is true where now shows more of the rollout done than before did.
func advanced(before, now appsv1.DeploymentStatus) bool {
	return now.UpdatedReplicas > before.UpdatedReplicas ||
		now.Replicas-now.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		now.ReadyReplicas > before.ReadyReplicas || now.AvailableReplicas > before.AvailableReplicas
}

// deadline is how long a rollout may stand still; ok is false where it may do so for ever.
func deadline(d *appsv1.Deployment) (_ time.Duration, ok bool) {
	s := d.Spec.ProgressDeadlineSeconds
	if s == nil || *s == math.MaxInt32 {
		return 0, false
	}
	return time.Duration(*s) * time.Second, true
}

// status is the whole status and, where only time can change it, when it will.
func (p *planner) status() (appsv1.DeploymentStatus, time.Time) {
	d := p.Deployment
	out := p.counts()
	c := conditions{list: slices.Clone(d.Status.Conditions), now: metav1.NewTime(p.Now)}
	if out.AvailableReplicas >= replicas(d)-boundsOf(d).unavailable {
		c.set(appsv1.DeploymentAvailable, corev1.ConditionTrue, reasonAvailable, "Deployment has minimum availability.")
	} else {
		c.set(appsv1.DeploymentAvailable, corev1.ConditionFalse, reasonUnavailable, "Deployment does not have minimum availability.")
	}
	var wakeAt time.Time
	if d.DeletionTimestamp == nil {
		wakeAt = p.progress(&c, out)
		p.failure(&c)
	}
	out.Conditions = c.list
	return out, wakeAt
}

// progress keeps the Progressing condition.
func (p *planner) progress(c *conditions, now appsv1.DeploymentStatus) (wakeAt time.Time) {
	d := p.Deployment
	limit, limited := deadline(d)
	if !limited {
		c.remove(appsv1.DeploymentProgressing)
		return time.Time{}
	}
	switch has := condition(c.list, appsv1.DeploymentProgressing); {
	case d.Spec.Paused && (has == nil || has.Reason != reasonPaused && has.Reason != reasonTimedOut):
		c.set(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !d.Spec.Paused && has != nil && has.Reason == reasonPaused:
		c.set(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonResumed, "Deployment is resumed")
	}
	switch p.reason {
	case reasonCreated:
		c.set(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonCreated, fmt.Sprintf("Created new replica set %q", p.fresh.Name))
	case reasonFound:
		if condition(c.list, appsv1.DeploymentProgressing) == nil {
			c.set(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonFound, fmt.Sprintf("Found new replica set %q", p.fresh.Name))
		}
	}
	if d.Spec.Paused || p.scaling {
		return time.Time{}
	}
	has := condition(c.list, appsv1.DeploymentProgressing)
	if has != nil && has.Reason == reasonComplete && now.Replicas == now.UpdatedReplicas {
		return time.Time{} // pods lost after the rollout are no part of it
	}
	subject := fmt.Sprintf("Deployment %q", d.Name)
	if p.fresh != nil {
		subject = fmt.Sprintf("ReplicaSet %q", p.fresh.Name)
	}
	switch {
	case complete(d, now):
		c.set(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonComplete, subject+" has successfully progressed.")
		return time.Time{}
	case advanced(d.Status, now):
		c.renew(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonUpdated, subject+" is progressing.")
		return p.Now.Add(limit)
	case has == nil || has.Reason == reasonComplete:
		return time.Time{} // the first advance will start the clock
	case has.Reason == reasonTimedOut:
		return time.Time{}
	}
	end := has.LastUpdateTime.Add(limit)
	if end.After(p.Now) {
		return end
	}
	c.set(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing.")
	return time.Time{}
}

// failure repeats what the sets say of pods that cannot be created, the new set first.
func (p *planner) failure(c *conditions) {
	sets := p.old
	if p.fresh != nil {
		sets = append([]*appsv1.ReplicaSet{p.fresh}, p.old...)
	}
	for _, s := range sets {
		for _, rc := range s.Status.Conditions {
			if rc.Type == appsv1.ReplicaSetReplicaFailure {
				c.set(appsv1.DeploymentReplicaFailure, rc.Status, rc.Reason, rc.Message)
				return
			}
		}
	}
	c.remove(appsv1.DeploymentReplicaFailure)
}

// conditions is a list being edited.
type conditions struct {
	list []appsv1.DeploymentCondition
	now  metav1.Time
}

func condition(list []appsv1.DeploymentCondition, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}

// set changes nothing where status and reason are the same already: the times say when they came to be.
func (c *conditions) set(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	if has := condition(c.list, kind); has != nil && has.Status == status && has.Reason == reason {
		return
	}
	c.renew(kind, status, reason, message)
}

// renew sets and moves lastUpdateTime in any case.
func (c *conditions) renew(kind appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	next := appsv1.DeploymentCondition{
		Type: kind, Status: status, Reason: reason, Message: message, LastUpdateTime: c.now, LastTransitionTime: c.now,
	}
	has := condition(c.list, kind)
	if has == nil {
		c.list = append(c.list, next)
		return
	}
	if has.Status == status {
		next.LastTransitionTime = has.LastTransitionTime
	}
	*has = next
}

func (c *conditions) remove(kind appsv1.DeploymentConditionType) {
	c.list = slices.DeleteFunc(c.list, func(dc appsv1.DeploymentCondition) bool { return dc.Type == kind })
}

// CreateFailed is the status after the new set could not be created.
func CreateFailed(status appsv1.DeploymentStatus, name string, err error, now time.Time) appsv1.DeploymentStatus {
	c := conditions{list: slices.Clone(status.Conditions), now: metav1.NewTime(now)}
	c.set(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonCreateError,
		fmt.Sprintf("Failed to create new replica set %q: %v", name, err))
	status.Conditions = c.list
	return status
}
