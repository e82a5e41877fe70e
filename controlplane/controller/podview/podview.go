// Package podview answers the questions that several controllers ask of a pod. It is pure.
package podview

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Condition is the pod's condition of that type, nil if it has none. It points into the pod.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// Ready is true where the pod's Ready condition is.
func Ready(pod *corev1.Pod) bool {
	c := Condition(pod, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Available is true once the pod has been ready for minReadySeconds. Where only time is missing,
// at is when it will be; otherwise at is zero.
func Available(pod *corev1.Pod, minReadySeconds int32, now time.Time) (ok bool, at time.Time) {
	c := Condition(pod, corev1.PodReady)
	if c == nil || c.Status != corev1.ConditionTrue {
		return false, time.Time{}
	}
	if minReadySeconds <= 0 {
		return true, time.Time{}
	}
	if c.LastTransitionTime.IsZero() {
		return false, time.Time{}
	}
	at = c.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second)
	if at.After(now) {
		return false, at
	}
	return true, time.Time{}
}

// Finished is true for a pod whose containers have all ended for good.
func Finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Active is true for a pod that runs or may run: neither finished nor being deleted.
func Active(pod *corev1.Pod) bool { return !Finished(pod) && pod.DeletionTimestamp == nil }

// Terminating is true for a pod that is being deleted and has not finished.
func Terminating(pod *corev1.Pod) bool { return !Finished(pod) && pod.DeletionTimestamp != nil }

// Restarts is how often the container restarted most often did so, sidecars included.
func Restarts(pod *corev1.Pod) int32 {
	var most int32
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			most = max(most, list[i].RestartCount)
		}
	}
	return most
}
