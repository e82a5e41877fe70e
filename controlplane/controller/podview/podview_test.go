package podview

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAvailable(t *testing.T) {
	now := time.Unix(1000, 0)
	ready := func(status corev1.ConditionStatus, since time.Time) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(since),
		}}}}
	}
	for name, tc := range map[string]struct {
		pod     *corev1.Pod
		minimum int32
		ok      bool
		at      time.Time
	}{
		"never ready":               {&corev1.Pod{}, 0, false, time.Time{}},
		"not ready":                 {ready(corev1.ConditionFalse, now), 0, false, time.Time{}},
		"ready, no minimum":         {ready(corev1.ConditionTrue, now), 0, true, time.Time{}},
		"ready for too short":       {ready(corev1.ConditionTrue, now.Add(-9*time.Second)), 10, false, now.Add(time.Second)},
		"ready for long enough":     {ready(corev1.ConditionTrue, now.Add(-10*time.Second)), 10, true, time.Time{}},
		"ready since nobody knows":  {ready(corev1.ConditionTrue, time.Time{}), 10, false, time.Time{}},
		"ready in a node's future":  {ready(corev1.ConditionTrue, now.Add(time.Hour)), 10, false, now.Add(time.Hour + 10*time.Second)},
		"a minimum that makes none": {ready(corev1.ConditionTrue, now), -1, true, time.Time{}},
	} {
		if ok, at := Available(tc.pod, tc.minimum, now); ok != tc.ok || !at.Equal(tc.at) {
			t.Errorf("%s: %v at %v, want %v at %v", name, ok, at, tc.ok, tc.at)
		}
	}
}

func TestPhases(t *testing.T) {
	for phase, finished := range map[corev1.PodPhase]bool{
		"": false, corev1.PodPending: false, corev1.PodRunning: false, corev1.PodUnknown: false, corev1.PodSucceeded: true, corev1.PodFailed: true,
	} {
		p := &corev1.Pod{Status: corev1.PodStatus{Phase: phase}}
		if Finished(p) != finished || Active(p) == finished || Terminating(p) {
			t.Errorf("%q: finished %v, active %v, terminating %v", phase, Finished(p), Active(p), Terminating(p))
		}
		p.DeletionTimestamp = &metav1.Time{}
		if Active(p) || Terminating(p) == finished {
			t.Errorf("%q, deleted: active %v, terminating %v", phase, Active(p), Terminating(p))
		}
	}
}

func TestRestarts(t *testing.T) {
	p := &corev1.Pod{Status: corev1.PodStatus{
		ContainerStatuses: []corev1.ContainerStatus{{RestartCount: 2}, {RestartCount: 1}}, InitContainerStatuses: []corev1.ContainerStatus{{RestartCount: 4}},
	}}
	if n := Restarts(p); n != 4 {
		t.Errorf("%d restarts, want the sidecar's 4", n)
	}
}
