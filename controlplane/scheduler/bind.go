package scheduler

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/controlplane/controller/podview"
	"coracle/controlplane/scheduler/decide"
)

// bind tells the API which node a pod has. A conflict is looked into: the pod may have this node already,
// from an answer that got lost or by another scheduler.
func (s *Scheduler) bind(ctx context.Context, pod *decide.Pod, node string) {
	err := s.config.Client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err != nil && ctx.Err() == nil {
		switch live, getErr := s.config.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{}); {
		case apierrors.IsNotFound(getErr), getErr == nil && (live.UID != pod.UID || live.DeletionTimestamp != nil):
			s.state.forget(pod.UID)
			s.queue.remove(pod.UID)
			return
		case getErr == nil && live.Spec.NodeName == node:
			err = nil
		case getErr == nil && live.Spec.NodeName != "":
			s.state.forget(pod.UID) // its event puts it where it is
			s.queue.remove(pod.UID)
			return
		}
	}
	if err != nil {
		s.state.forget(pod.UID)
		s.queue.retry(pod.UID)
		s.queue.moved(decide.Freed)
		if ctx.Err() == nil {
			s.config.Log.Warn("bind", "pod", pod.Namespace+"/"+pod.Name, "node", node, "err", err)
			s.recorder.Eventf(pod.Pod, corev1.EventTypeWarning, "FailedScheduling", "binding to node %s: %v", node, err)
		}
		return
	}
	s.state.bound(pod.UID, s.config.Clock.Now())
	s.queue.remove(pod.UID)
	s.recorder.Eventf(pod.Pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
}

// explain says in the pod's condition and an event why it has no node.
func (s *Scheduler) explain(ctx context.Context, pod *corev1.Pod, message string) {
	s.recorder.Event(pod, corev1.EventTypeWarning, "FailedScheduling", message)
	s.setScheduled(ctx, pod, corev1.PodReasonUnschedulable, message)
}

// setScheduled writes PodScheduled=False where it does not say so with these words already.
func (s *Scheduler) setScheduled(ctx context.Context, pod *corev1.Pod, reason, message string) {
	if err := s.patchScheduled(ctx, pod, reason, message); err != nil && ctx.Err() == nil {
		s.config.Log.Warn("write the PodScheduled condition", "pod", pod.Namespace+"/"+pod.Name, "err", err)
	}
}

func (s *Scheduler) patchScheduled(ctx context.Context, pod *corev1.Pod, reason, message string) error {
	// The queue may hold an older state of the pod than the cache, without the condition of the last attempt.
	if obj, ok, err := s.pods.GetStore().GetByKey(pod.Namespace + "/" + pod.Name); err == nil && ok {
		if live, ok := obj.(*corev1.Pod); ok && live.UID == pod.UID {
			pod = live
		}
	}
	now := metav1.NewTime(s.config.Clock.Now())
	next := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: now,
	}
	if c := podview.Condition(pod, corev1.PodScheduled); c != nil {
		if c.Status == next.Status && c.Reason == next.Reason && c.Message == next.Message {
			return nil
		}
		if c.Status == next.Status {
			next.LastTransitionTime = c.LastTransitionTime
		}
	}
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{next}},
	})
	if err != nil {
		return fmt.Errorf("encode a condition: %w", err)
	}
	_, err = s.config.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another one of the name
	}
	return err
}
