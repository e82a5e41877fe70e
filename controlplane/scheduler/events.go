package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"coracle/controlplane/controller/podview"
	"coracle/controlplane/scheduler/decide"
)

func (s *Scheduler) namespaceSet(ns *corev1.Namespace) {
	labels := ns.Labels
	if labels == nil {
		labels = map[string]string{}
	}
	s.state.setNamespace(ns.Name, labels)
}

func (s *Scheduler) namespaceGone(ns *corev1.Namespace) { s.state.setNamespace(ns.Name, nil) }

func (s *Scheduler) nodeAdded(n *corev1.Node) {
	s.state.setNode(n.Name, n)
	s.queue.moved(decide.Nodes)
}

// nodeChanged keeps every state, and wakes pods only for what decides about them.
func (s *Scheduler) nodeChanged(before, after *corev1.Node) {
	s.state.setNode(after.Name, after)
	if before.UID != after.UID || before.Spec.Unschedulable != after.Spec.Unschedulable ||
		!slices.EqualFunc(before.Spec.Taints, after.Spec.Taints, func(a, b corev1.Taint) bool {
			return a.MatchTaint(&b) && a.Value == b.Value
		}) ||
		!equality.Semantic.DeepEqual(before.Labels, after.Labels) ||
		!equality.Semantic.DeepEqual(before.Status.Allocatable, after.Status.Allocatable) {
		s.queue.moved(decide.Nodes)
	}
}

func (s *Scheduler) nodeGone(n *corev1.Node) {
	s.state.setNode(n.Name, nil)
	s.queue.moved(decide.Placed) // spreading counts one domain less
}

func (s *Scheduler) podAdded(pod *corev1.Pod) {
	switch {
	case podview.Finished(pod):
	case pod.Spec.NodeName != "":
		s.queue.remove(pod.UID)
		s.state.setPod(decide.NewPod(pod))
		s.queue.moved(decide.Placed)
	case pod.DeletionTimestamp != nil || pod.Spec.SchedulerName != Name:
	default:
		s.queue.set(decide.NewPod(pod))
	}
}

func (s *Scheduler) podChanged(before, after *corev1.Pod) {
	if before.UID != after.UID {
		s.podGone(before)
		s.podAdded(after)
		return
	}
	if after.Spec.NodeName == "" {
		s.pendingChanged(before, after)
		return
	}
	s.queue.remove(after.UID)
	switch {
	case podview.Finished(after):
		if s.state.removePod(after.UID) {
			s.queue.moved(decide.Freed)
		}
	case before.Spec.NodeName == "":
		s.state.setPod(decide.NewPod(after))
		s.queue.moved(decide.Placed)
	case placedDiffers(before, after):
		s.state.setPod(decide.NewPod(after))
		s.queue.moved(decide.Placed | decide.Freed)
	}
}

// placedDiffers is true where a change of a pod in place may matter to others: what it takes, its labels, and
// that it is about to go.
func placedDiffers(before, after *corev1.Pod) bool {
	return before.Generation != after.Generation || (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		!equality.Semantic.DeepEqual(before.Labels, after.Labels) ||
		!equality.Semantic.DeepEqual(before.Spec.Containers, after.Spec.Containers) ||
		!equality.Semantic.DeepEqual(allocated(before), allocated(after))
}

// allocated is what the node says it granted, which counts while a resize is under way.
func allocated(pod *corev1.Pod) []corev1.ResourceList {
	var out []corev1.ResourceList
	for i := range pod.Status.ContainerStatuses {
		out = append(out, pod.Status.ContainerStatuses[i].AllocatedResources)
	}
	return out
}

func (s *Scheduler) pendingChanged(before, after *corev1.Pod) {
	switch {
	case podview.Finished(after) || after.DeletionTimestamp != nil || after.Spec.SchedulerName != Name:
		s.queue.remove(after.UID)
	case !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Labels, after.Labels):
		s.queue.set(decide.NewPod(after))
	}
}

func (s *Scheduler) podGone(pod *corev1.Pod) {
	s.queue.remove(pod.UID)
	if s.state.removePod(pod.UID) {
		s.queue.moved(decide.Freed | decide.Placed)
	}
}
