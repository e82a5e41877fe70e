package pod

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// planEnd plans once for a pod that the node ends.
func planEnd(w *world, f Failed) Result {
	return Plan(Desired{Pod: w.pod, Previous: w.last, End: &f}, w.observed(), w.now)
}

// TestRejectedPodIsNothingButItsReason: no step is taken for it, then or later.
func TestRejectedPodIsNothingButItsReason(t *testing.T) {
	w := newWorld(newPod(container("web")))
	rejection := &Rejection{Reason: "OutOfcpu", Message: "Node didn't have enough resource: cpu"}
	r := planEnd(w, *rejection.Failed())
	s := r.Status
	if len(r.Steps) > 0 || s.Phase != v1.PodFailed || s.Reason != "OutOfcpu" || s.Message != "Pod was rejected: Node didn't have enough resource: cpu" ||
		len(s.ContainerStatuses) > 0 || len(s.Conditions) > 0 || s.StartTime == nil || s.HostIP != "" {
		t.Errorf("steps %v, status %+v", r.Steps, s)
	}
	if kind, reason, message := r.Facts.Failed.Event(); kind != v1.EventTypeWarning || reason != "OutOfcpu" || message != rejection.Message {
		t.Errorf("event %s %s %s", kind, reason, message)
	}
	// The reason is remembered: it need not be said again.
	w.o.Facts, w.last = r.Facts, r.Status
	w.run(time.Hour)
	if w.last.Reason != "OutOfcpu" || w.steps > 0 || len(w.broken) > 0 {
		t.Errorf("later: %d steps, %+v %v", w.steps, w.last, w.broken)
	}
}

// TestEndedPodKeepsItsFirstReason: it has its grace, fails when its containers have ended, and shows that the node did it.
func TestEndedPodKeepsItsFirstReason(t *testing.T) {
	p := newPod(container("web"))
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](600)
	w := newWorld(p)
	w.behave["web"] = each(behaviour{ignoreTerm: true})
	w.run(time.Minute)
	evicted := Failed{Reason: "Evicted", Message: "The node was low on resource: memory.", Disruption: v1.PodReasonTerminationByKubelet, GraceSeconds: ptr.To[int64](5)}
	r := planEnd(w, evicted)
	if r.Status.Phase != v1.PodRunning || r.Status.Reason != "" {
		t.Errorf("failed before its containers have ended: %+v", r.Status)
	}
	w.o.Facts = r.Facts
	again := planEnd(w, Failed{Reason: "Preempting"})
	if again.Facts.Failed.Reason != "Evicted" {
		t.Errorf("a second end took the place of the first: %+v", again.Facts.Failed)
	}
	w.run(2 * time.Minute)
	disrupted := false
	for _, c := range w.last.Conditions {
		disrupted = disrupted || c.Type == v1.DisruptionTarget && c.Status == v1.ConditionTrue && c.Reason == v1.PodReasonTerminationByKubelet
	}
	if w.last.Phase != v1.PodFailed || w.last.Reason != "Evicted" || !disrupted || len(w.broken) > 0 {
		t.Errorf("ended as %+v %v", w.last, w.broken)
	}
	if end := w.last.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 137 || end.FinishedAt.Sub(epoch) > time.Minute+10*time.Second {
		t.Errorf("not killed after the grace that was given: %+v", end)
	}
}

// TestRestartBackOffOfTheNode: waits double up to what the node allows, and begin with no more than that.
func TestRestartBackOffOfTheNode(t *testing.T) {
	for limit, want := range map[time.Duration]string{
		0:                "[0s 10s 20s 40s 1m20s 2m40s 5m0s 5m0s]",
		25 * time.Second: "[0s 10s 20s 25s 25s 25s 25s 25s]",
		2 * time.Second:  "[0s 2s 2s 2s 2s 2s 2s 2s]",
	} {
		p := newPod(container("web"))
		o, now := Observed{}, epoch
		var waits []time.Duration
		for attempt := range 8 {
			o.Containers = []Container{{ID: "c", Name: "web", Kind: Main, Attempt: attempt, Fingerprint: Fingerprint(&p.Spec.Containers[0]),
				State: Exited, ExitCode: 1, StartedAt: now, FinishedAt: now.Add(time.Second)}}
			now = now.Add(time.Second)
			ended := now
			for { // wait as often as Plan asks for it, until it makes the next attempt
				r := Plan(Desired{Pod: p, BackOffMax: limit}, o, now)
				o.Facts = r.Facts
				if len(r.Steps) > 0 {
					break
				}
				if !r.WakeAt.After(now) {
					t.Fatalf("attempt %d: nothing to do and no time to wait for", attempt)
				}
				now = r.WakeAt
			}
			waits = append(waits, now.Sub(ended))
		}
		if got := fmt.Sprint(waits); got != want {
			t.Errorf("limit %s: waits %s, want %s", limit, got, want)
		}
	}
}

func TestStopMessage(t *testing.T) {
	always, never := newPod(container("web")), newPod(container("web"))
	never.Spec.RestartPolicy = v1.RestartPolicyNever
	for _, tc := range []struct {
		p    *v1.Pod
		why  StopReason
		want string
	}{
		{always, StopLiveness, "Container web failed liveness probe, will be restarted"},
		{never, StopLiveness, "Container web failed liveness probe"},
		{always, StopStartup, "Container web failed startup probe, will be restarted"},
		{always, StopChanged, "Container web definition changed, will be restarted"},
		{always, StopHook, "FailedPostStartHook"},
		{always, StopAll, "Stopping container web"},
	} {
		if got := StopMessage(tc.p, "web", tc.why); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.why, got, tc.want)
		}
	}
}
