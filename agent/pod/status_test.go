package pod

import (
	"errors"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func condition(s *v1.PodStatus, t v1.PodConditionType) v1.PodCondition {
	for _, c := range s.Conditions {
		if c.Type == t {
			return c
		}
	}
	return v1.PodCondition{}
}

func TestTransitionTimes(t *testing.T) {
	w := newWorld(newPod(container("web")))
	w.behave["web"] = func(n int) behaviour {
		if n == 0 {
			return behaviour{exitAfter: 5 * time.Minute, exitCode: 1}
		}
		return behaviour{exitAfter: 3 * time.Second, exitCode: 1}
	}
	w.run(time.Minute)
	ready := condition(&w.last, v1.PodReady)
	if ready.Status != v1.ConditionTrue || !ready.LastTransitionTime.Time.Equal(epoch) {
		t.Fatalf("ready %+v, want True since the start", ready)
	}
	w.run(4 * time.Minute)
	if again := condition(&w.last, v1.PodReady); again != ready {
		t.Errorf("ready changed at rest: %+v", again)
	}
	w.run(5*time.Minute + 4*time.Second) // attempt 1 has ended too and waits
	ready = condition(&w.last, v1.PodReady)
	if want := epoch.Add(5*time.Minute + 3*time.Second); ready.Status != v1.ConditionFalse || ready.LastTransitionTime.Time.Before(want) {
		t.Errorf("ready %+v, want False since %s", ready, want)
	}
	if ready.Reason != "ContainersNotReady" || ready.Message != "containers with unready status: [web]" {
		t.Errorf("reason %q, message %q", ready.Reason, ready.Message)
	}
	if since := condition(&w.last, v1.PodInitialized).LastTransitionTime; !since.Time.Equal(epoch) {
		t.Errorf("Initialized since %s, want %s", since, epoch)
	}
}

func TestReadinessGates(t *testing.T) {
	p := newPod(container("web"))
	p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.org/a"}, {ConditionType: "example.org/b"}}
	p.Status.Conditions = []v1.PodCondition{{Type: "example.org/b", Status: v1.ConditionFalse}}
	w := newWorld(p)
	w.run(time.Second)
	ready := condition(&w.last, v1.PodReady)
	want := `corresponding condition of pod readiness gate "example.org/a" does not exist., the status of pod readiness gate "example.org/b" is not "True", but False`
	if ready.Status != v1.ConditionFalse || ready.Reason != "ReadinessGatesNotReady" || ready.Message != want {
		t.Errorf("ready %+v", ready)
	}
	if c := condition(&w.last, v1.ContainersReady); c.Status != v1.ConditionTrue {
		t.Errorf("ContainersReady %+v", c)
	}
	for _, c := range w.last.Conditions {
		if c.Type == "example.org/b" {
			t.Error("the node reports a condition that is not its own")
		}
	}
	w.pod.Status.Conditions = []v1.PodCondition{{Type: "example.org/a", Status: v1.ConditionTrue}, {Type: "example.org/b", Status: v1.ConditionTrue}}
	w.run(2 * time.Second)
	if c := condition(&w.last, v1.PodReady); c.Status != v1.ConditionTrue {
		t.Errorf("ready %+v with all gates open", c)
	}
}

// TestContainersVanish: what someone else took away counts as an attempt, and is said so.
func TestContainersVanish(t *testing.T) {
	w := newWorld(newPod(container("web")))
	w.run(time.Minute)
	w.o.Containers = nil
	w.run(2 * time.Minute)
	c := w.last.ContainerStatuses[0]
	if c.RestartCount != 1 || c.State.Running == nil {
		t.Fatalf("status %+v", c)
	}
	if last := c.LastTerminationState.Terminated; last == nil || last.Reason != "ContainerStatusUnknown" || last.ExitCode != 137 {
		t.Errorf("last state %+v", last)
	}
}

// TestImageChangesWhilePullFails: a corrected image is not held up by the back-off of the wrong one.
func TestImageChangesWhilePullFails(t *testing.T) {
	w := newWorld(newPod(container("web")))
	w.pulls["web"] = func(int) error {
		if w.pod.Spec.Containers[0].Image == "web:1" {
			return errors.New("not found")
		}
		return nil
	}
	w.run(5 * time.Minute)
	w.pod.Spec.Containers[0].Image = "web:2"
	w.run(5*time.Minute + time.Second)
	if got := w.running(); len(got) != 1 {
		t.Errorf("not running with the corrected image:\n%v", w.trace)
	}
}

// TestDeletionSurvivesClock: a clock that falls back during the grace does not keep the pod for years.
func TestDeletionSurvivesClock(t *testing.T) {
	w := newWorld(newPod(container("web")))
	w.behave["web"] = each(behaviour{ignoreTerm: true})
	w.run(time.Minute)
	w.delete(30)
	w.run(time.Minute + 10*time.Second)
	w.start, w.now = w.start.AddDate(-50, 0, 0), w.now.AddDate(-50, 0, 0)
	w.run(2 * time.Minute)
	if w.left() {
		t.Errorf("left after the grace: %v", w.trace)
	}
}

func TestAddressesOutliveThePod(t *testing.T) {
	p := newPod(container("web"))
	p.Spec.RestartPolicy = v1.RestartPolicyNever
	w := newWorld(p)
	w.behave["web"] = each(behaviour{exitAfter: time.Minute})
	w.run(time.Hour)
	if s := w.last; s.Phase != v1.PodSucceeded || s.PodIP != "10.0.0.2" || s.HostIP != "192.0.2.1" || w.o.Sandbox != nil {
		t.Errorf("phase %s, podIP %q, hostIP %q, sandbox %v", s.Phase, s.PodIP, s.HostIP, w.o.Sandbox)
	}
	if s := w.last; s.ObservedGeneration != 1 || s.QOSClass != v1.PodQOSBestEffort || !s.StartTime.Equal(&metav1.Time{Time: epoch}) {
		t.Errorf("generation %d, class %s, start %s", s.ObservedGeneration, s.QOSClass, s.StartTime)
	}
}

// TestRestartRules: rules of a container come before its policy, and that before the pod's.
func TestRestartRules(t *testing.T) {
	never, always := v1.ContainerRestartPolicyNever, v1.ContainerRestartPolicyAlways
	rule := func(op v1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []v1.ContainerRestartRule {
		return []v1.ContainerRestartRule{{Action: v1.ContainerRestartRuleActionRestart, ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}}
	}
	for _, tc := range []struct {
		name string
		own  *v1.ContainerRestartPolicy
		rule []v1.ContainerRestartRule
		pod  v1.RestartPolicy
		code int
		want v1.ContainerRestartPolicy
	}{
		{"the pod's", nil, nil, v1.RestartPolicyOnFailure, 1, v1.ContainerRestartPolicyOnFailure},
		{"its own", &never, nil, v1.RestartPolicyAlways, 1, never},
		{"a rule that matches", &never, rule(v1.ContainerRestartRuleOnExitCodesOpIn, 42), v1.RestartPolicyNever, 42, always},
		{"a rule that does not", &never, rule(v1.ContainerRestartRuleOnExitCodesOpIn, 42), v1.RestartPolicyNever, 41, never},
		{"not among", &never, rule(v1.ContainerRestartRuleOnExitCodesOpNotIn, 0), v1.RestartPolicyNever, 3, always},
	} {
		c := container("web")
		c.RestartPolicy, c.RestartPolicyRules = tc.own, tc.rule
		p := newPod(c)
		p.Spec.RestartPolicy = tc.pod
		if got := policyOf(&c, p, tc.code); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
