// Package replicaset keeps the number of pods that ReplicaSets ask for.
//
// plan.go decides: how many to create, which to delete, what the status says. controller.go holds
// the pods (adopting and releasing by label) and carries the plan out. A plan is made only when
// every creation and deletion of the last one has been seen (package expect), so that an old cache
// never makes it create or delete twice.
package replicaset

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"coracle/controlplane/controller/podview"
)

// burst is the most pods that one plan creates or deletes, so that one set does not starve others.
const burst = 500

// Input is one ReplicaSet and the pods it holds, in any order.
type Input struct {
	Set  *appsv1.ReplicaSet
	Pods []*corev1.Pod
	// Crowd counts, by node, the active pods of this set and of its siblings under the same
	// Deployment; nil counts the set's own.
	Crowd map[string]int
	Now   time.Time
}

// Plan is what to do so that the set has the pods it asks for: never both fields.
type Plan struct {
	Create int
	Delete []*corev1.Pod
}

// Empty is true where nothing is to be done.
func (p Plan) Empty() bool { return p.Create == 0 && len(p.Delete) == 0 }

// MakePlan compares what is asked for with what there is. Pods that are finished or being deleted do
// not count: they are replaced at once.
func MakePlan(in Input) Plan {
	if in.Set.DeletionTimestamp != nil {
		return Plan{}
	}
	var active []*corev1.Pod
	for _, p := range in.Pods {
		if podview.Active(p) {
			active = append(active, p)
		}
	}
	want := int(ptr.Deref(in.Set.Spec.Replicas, 1))
	switch surplus := len(active) - want; {
	case surplus < 0:
		return Plan{Create: min(-surplus, burst)}
	case surplus > 0:
		rank(active, in.Crowd, in.Now)
		return Plan{Delete: active[:min(surplus, burst)]}
	}
	return Plan{}
}

// rank sorts pods by how little is lost when they go, least first.
func rank(pods []*corev1.Pod, crowd map[string]int, now time.Time) {
	if crowd == nil {
		crowd = map[string]int{}
		for _, p := range pods {
			crowd[p.Spec.NodeName]++
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(
			before(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phaseRank(a), phaseRank(b)),
			before(!podview.Ready(a), !podview.Ready(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(crowd[b.Spec.NodeName], crowd[a.Spec.NodeName]),
			cmp.Compare(age(readySince(a), now), age(readySince(b), now)),
			cmp.Compare(podview.Restarts(b), podview.Restarts(a)),
			cmp.Compare(age(a.CreationTimestamp.Time, now), age(b.CreationTimestamp.Time, now)),
			cmp.Compare(a.UID, b.UID),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

// before orders the one for which the statement is true first.
func before(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phaseRank(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodPending, "":
		return 0
	case corev1.PodRunning:
		return 2
	}
	return 1
}

// deletionCost is the user's own ranking; an annotation that is no int32 counts as 0.
func deletionCost(p *corev1.Pod) int32 {
	n, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func readySince(p *corev1.Pod) time.Time {
	if c := podview.Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// age is the order of magnitude of the time since t. Pods of about the same age are equal, so that
// the uid decides, which is random: always taking the newest would empty the nodes added last.
func age(t, now time.Time) int {
	if t.IsZero() {
		return -1
	}
	s := now.Sub(t).Seconds()
	if s < 1 {
		return 0
	}
	return 1 + int(math.Log2(s))
}

// Outcome is how carrying out a plan went.
type Outcome struct {
	Err error // nil: well, or nothing was to be done
	// Deleting tells a failed deletion from a failed creation.
	Deleting bool
	// Skipped: no plan was carried out, since events are awaited; a failure known from before stays.
	Skipped bool
}

// Status computes the set's status; wakeAt is when a pod becomes available by time alone, else zero.
func Status(in Input, out Outcome) (status appsv1.ReplicaSetStatus, wakeAt time.Time) {
	set := in.Set
	status = *set.Status.DeepCopy()
	status.ObservedGeneration = set.Generation
	status.Replicas, status.FullyLabeledReplicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0, 0
	template := labels.SelectorFromSet(set.Spec.Template.Labels)
	var terminating int32
	for _, p := range in.Pods {
		if podview.Terminating(p) {
			terminating++
		}
		if !podview.Active(p) {
			continue
		}
		status.Replicas++
		if template.Matches(labels.Set(p.Labels)) {
			status.FullyLabeledReplicas++
		}
		if !podview.Ready(p) {
			continue
		}
		status.ReadyReplicas++
		ok, at := podview.Available(p, set.Spec.MinReadySeconds, in.Now)
		if ok {
			status.AvailableReplicas++
		} else if !at.IsZero() && (wakeAt.IsZero() || at.Before(wakeAt)) {
			wakeAt = at
		}
	}
	status.TerminatingReplicas = &terminating
	if !out.Skipped {
		status.Conditions = failure(status.Conditions, out, in.Now)
	}
	return status, wakeAt
}

// failure sets or takes away the ReplicaFailure condition.
func failure(conditions []appsv1.ReplicaSetCondition, out Outcome, now time.Time) []appsv1.ReplicaSetCondition {
	i := slices.IndexFunc(conditions, func(c appsv1.ReplicaSetCondition) bool {
		return c.Type == appsv1.ReplicaSetReplicaFailure
	})
	if out.Err == nil {
		if i >= 0 {
			return slices.Delete(conditions, i, i+1)
		}
		return conditions
	}
	c := appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
		Message: out.Err.Error(), LastTransitionTime: metav1.NewTime(now),
	}
	if out.Deleting {
		c.Reason = "FailedDelete"
	}
	if i < 0 {
		return append(conditions, c)
	}
	if conditions[i].Reason == c.Reason {
		c.LastTransitionTime = conditions[i].LastTransitionTime
	}
	conditions[i] = c
	return conditions
}
