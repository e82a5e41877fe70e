package pod

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

// genPod draws a pod with init containers, sidecars, hooks and every restart policy.
func genPod(t *rapid.T) *v1.Pod {
	p := newPod()
	p.Spec.RestartPolicy = rapid.SampledFrom([]v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever}).Draw(t, "policy")
	for i := range rapid.IntRange(0, 3).Draw(t, "inits") {
		c := container(fmt.Sprintf("init-%d", i))
		if rapid.Bool().Draw(t, "sidecar") {
			c = sidecar(fmt.Sprintf("side-%d", i))
		}
		genHooks(t, &c)
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "mains") {
		c := container(fmt.Sprintf("main-%d", i))
		genHooks(t, &c)
		genRules(t, &c)
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	p.Spec.HostNetwork = rapid.Bool().Draw(t, "hostNetwork")
	if rapid.IntRange(0, 4).Draw(t, "deadline") == 0 {
		p.Spec.ActiveDeadlineSeconds = ptr.To(rapid.Int64Range(1, 600).Draw(t, "seconds"))
	}
	return p
}

// genRules lets some containers restart by rules of their own; exit codes are 0 to 2.
func genRules(t *rapid.T, c *v1.Container) {
	if rapid.IntRange(0, 3).Draw(t, "rules") > 0 {
		return
	}
	c.RestartPolicy = ptr.To(rapid.SampledFrom([]v1.ContainerRestartPolicy{
		v1.ContainerRestartPolicyAlways, v1.ContainerRestartPolicyOnFailure, v1.ContainerRestartPolicyNever,
	}).Draw(t, "own policy"))
	action := rapid.SampledFrom([]v1.ContainerRestartRuleAction{
		v1.ContainerRestartRuleActionRestart, v1.ContainerRestartRuleActionRestartAllContainers,
	}).Draw(t, "action")
	c.RestartPolicyRules = []v1.ContainerRestartRule{rule(action, rapid.Int32Range(0, 2).Draw(t, "on"))}
}

func genHooks(t *rapid.T, c *v1.Container) {
	if rapid.IntRange(0, 3).Draw(t, "hooks") > 0 {
		return
	}
	c.Lifecycle = &v1.Lifecycle{}
	if KindOf(c) == Sidecar || rapid.Bool().Draw(t, "postStart") {
		c.Lifecycle.PostStart = &v1.LifecycleHandler{}
	}
	if rapid.Bool().Draw(t, "preStop") {
		c.Lifecycle.PreStop = &v1.LifecycleHandler{}
	}
}

// genBehaviour draws what the first attempts do; later ones of an init container succeed,
// others run on.
func genBehaviour(t *rapid.T, w *world, c *v1.Container, init bool) {
	var list []behaviour
	for range rapid.IntRange(0, 3).Draw(t, "attempts") {
		list = append(list, behaviour{
			exitAfter:  time.Duration(rapid.IntRange(1, 900).Draw(t, "runs")) * time.Second,
			exitCode:   rapid.IntRange(0, 2).Draw(t, "code"),
			ignoreTerm: rapid.Bool().Draw(t, "ignores"),
			termAfter:  time.Duration(rapid.IntRange(0, 40).Draw(t, "term")) * time.Second,
			hookTakes:  time.Duration(rapid.IntRange(0, 5).Draw(t, "hook")) * time.Second,
			hookFails:  rapid.IntRange(0, 4).Draw(t, "fails") == 0,
		})
	}
	w.behave[c.Name] = func(n int) behaviour {
		switch {
		case n < len(list):
			return list[n]
		case init:
			return behaviour{exitAfter: time.Second}
		}
		return behaviour{}
	}
	bad := rapid.IntRange(0, 2).Draw(t, "badPulls")
	w.pulls[c.Name] = func(n int) error {
		if n < bad {
			return fmt.Errorf("pull %d refused", n)
		}
		return nil
	}
}

func genWorld(t *rapid.T) *world {
	p := genPod(t)
	w := newWorld(p)
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		genBehaviour(t, w, c, KindOf(c) == Init)
	}
	for i := range p.Spec.Containers {
		genBehaviour(t, w, &p.Spec.Containers[i], false)
	}
	return w
}

// disturb does one thing that happens to nodes.
func disturb(t *rapid.T, w *world) {
	switch rapid.SampledFrom([]string{"agent", "agent after a step", "reboot", "kill", "image", "delete", "remove"}).Draw(t, "event") {
	case "agent":
		w.restartAgent()
	case "agent after a step":
		w.killAfter = w.steps + rapid.IntRange(1, 6).Draw(t, "steps")
	case "reboot":
		w.reboot()
	case "kill":
		if r := w.o.Containers; len(r) > 0 {
			w.exit(r[rapid.IntRange(0, len(r)-1).Draw(t, "which")].ID, 137, true)
		}
	case "image":
		w.pod = w.pod.DeepCopy()
		w.pod.Spec.Containers[0].Image += "0"
	case "delete":
		if w.pod.DeletionTimestamp == nil && rapid.Bool().Draw(t, "really") {
			w.delete(rapid.Int64Range(0, 60).Draw(t, "grace"))
		}
	case "remove":
		if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
			w.removed = true
		}
	}
}

// TestPlanConverges: whatever happens, nothing forbidden is ever planned, and once it is
// quiet the pod comes to rest where it should.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		at := time.Duration(0)
		for range rapid.IntRange(0, 6).Draw(t, "events") {
			at += time.Duration(rapid.IntRange(0, 700).Draw(t, "pause")) * time.Second
			w.run(at)
			disturb(t, w)
		}
		w.run(at + 5*time.Hour)
		for _, b := range w.broken {
			t.Error(b)
		}
		for id, n := range w.started {
			if n > 1 {
				t.Errorf("container %s was started %d times", id, n)
			}
		}
		r := w.plan()
		if len(r.Steps) > 0 {
			t.Errorf("not at rest: %v", r.Steps)
		}
		checkEnd(t, w, r)
		if t.Failed() {
			for _, line := range w.trace {
				t.Log(line)
			}
		}
	})
}

// alwaysRestarts says that no container of the pod ever ends for good.
func alwaysRestarts(p *v1.Pod) bool {
	for _, c := range p.Spec.Containers {
		if c.RestartPolicy != nil {
			return false
		}
	}
	return p.Spec.RestartPolicy == v1.RestartPolicyAlways
}

func checkEnd(t *rapid.T, w *world, r Result) {
	if w.removed || w.pod.DeletionTimestamp != nil {
		if w.left() || !r.Released {
			t.Errorf("deleted, but left: released %v, %+v", r.Released, w.o)
		}
		return
	}
	if r.Released {
		t.Error("released without having been deleted")
	}
	switch r.Status.Phase {
	case v1.PodSucceeded, v1.PodFailed:
		if alwaysRestarts(w.pod) && w.o.Facts.Failed == nil {
			t.Errorf("a pod that always restarts has ended as %s", r.Status.Phase)
		}
		if w.o.Sandbox != nil || w.o.Volumes || w.o.Cgroup || w.o.Network || len(w.running()) > 0 {
			t.Errorf("ended, but holds: %+v", w.o)
		}
	case v1.PodRunning:
		for _, c := range r.Status.ContainerStatuses {
			if c.State.Running == nil && alwaysRestarts(w.pod) {
				t.Errorf("container %s does not run at rest: %+v", c.Name, c.State)
			}
		}
	default:
		t.Errorf("phase %s at rest", r.Status.Phase)
	}
}

// TestKillAtEveryStep: an agent that dies after any step is followed by one that brings the pod to the same end.
func TestKillAtEveryStep(t *testing.T) {
	for _, tc := range traces {
		switch tc.name {
		case "orphan", "image-pull-fails", "config-missing", "probes", "exited-while-agent-down":
			continue // their end depends on what a restart forgets on purpose, or they restart the agent themselves
		}
		t.Run(tc.name, func(t *testing.T) {
			undisturbed := tc.live()
			want := statusLine(&undisturbed.last)
			for k := 1; k <= undisturbed.steps; k++ {
				w := liveKilled(tc.live, k)
				for _, b := range w.broken {
					t.Errorf("killed after step %d: %s", k, b)
				}
				for id, n := range w.started {
					if n > 1 {
						t.Errorf("killed after step %d: container %s was started %d times", k, id, n)
					}
				}
				if got := statusLine(&w.last); got != want {
					t.Errorf("killed after step %d: ends as\n%s\nwant\n%s", k, got, want)
				}
				if w.left() != undisturbed.left() {
					t.Errorf("killed after step %d: left %v, want %v", k, w.left(), undisturbed.left())
				}
			}
		})
	}
}

// nextKill is handed to the next world that is made; lives make their own.
var nextKill int

func liveKilled(live func() *world, k int) *world {
	nextKill = k
	defer func() { nextKill = 0 }()
	return live()
}

// TestPlanIgnoresOrder: containers may be observed in any order.
func TestPlanIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		at := time.Duration(rapid.IntRange(0, 2000).Draw(t, "at")) * time.Second
		w.run(at)
		disturb(t, w)
		d := Desired{Pod: w.pod, Removed: w.removed, Previous: w.last}
		want := Plan(d, w.observed(), w.now)
		o := w.observed()
		o.Containers = rapid.Permutation(o.Containers).Draw(t, "order")
		if diff := cmp.Diff(want, Plan(d, o, w.now)); diff != "" {
			t.Errorf("another order gives another plan:\n%s", diff)
		}
	})
}

// TestPlanIsPure: the same input gives the same result, and is not changed.
func TestPlanIsPure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		w.run(time.Duration(rapid.IntRange(0, 2000).Draw(t, "at")) * time.Second)
		disturb(t, w)
		d := Desired{Pod: w.pod, Removed: w.removed, Previous: w.last}
		before := w.observed()
		before.Facts = before.Facts.clone()
		podBefore := w.pod.DeepCopy()
		first := Plan(d, w.observed(), w.now)
		second := Plan(d, w.observed(), w.now)
		if !reflect.DeepEqual(first, second) {
			t.Errorf("two calls differ:\n%s", cmp.Diff(first, second))
		}
		if diff := cmp.Diff(before, w.observed(), cmp.Comparer(func(a, b Facts) bool {
			x, _ := a.Encode()
			y, _ := b.Encode()
			return string(x) == string(y)
		})); diff != "" {
			t.Errorf("Plan changed its input:\n%s", diff)
		}
		if !reflect.DeepEqual(podBefore, w.pod) {
			t.Error("Plan changed the pod")
		}
	})
}

// TestPlanWritesNothingAtRest: once a pod has come to rest its facts stay as they are, so that no disk is written.
func TestPlanWritesNothingAtRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		w.run(6 * time.Hour)
		before, _ := w.o.Facts.Encode()
		status := w.last.DeepCopy()
		for range 10 {
			w.advance(w.now.Add(time.Hour))
			if r := w.plan(); len(r.Steps) > 0 || !r.WakeAt.IsZero() && r.WakeAt.Before(w.now) {
				t.Fatalf("not at rest: %v, wakes at %s", r.Steps, r.WakeAt)
			}
		}
		after, _ := w.o.Facts.Encode()
		if string(before) != string(after) {
			t.Errorf("facts changed at rest:\n%s\n%s", before, after)
		}
		if diff := cmp.Diff(status, &w.last); diff != "" {
			t.Errorf("status changed at rest:\n%s", diff)
		}
	})
}

// TestRunningIsStoppedOnlyForAReason: an agent that starts with nothing but what it observes
// stops nothing, whatever the fingerprints of a later version say.
func TestRunningIsStoppedOnlyForAReason(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := genWorld(t)
		w.pod.Spec.ActiveDeadlineSeconds = nil
		w.run(time.Duration(rapid.IntRange(0, 2000).Draw(t, "at")) * time.Second)
		if w.o.Facts.Finished != "" || w.mainsEnded() {
			return
		}
		w.restartAgent()
		if rapid.Bool().Draw(t, "facts lost") {
			w.o.Facts = Facts{}
			w.last = v1.PodStatus{}
		}
		for i := range w.o.Containers {
			w.o.Containers[i].Fingerprint = rapid.SampledFrom([]string{w.o.Containers[i].Fingerprint, "v2:abcd", "", "x"}).Draw(t, "fingerprint")
		}
		stopping := map[string]bool{}
		for name, f := range w.o.Facts.Containers {
			stopping[name] = f.Stop != nil
		}
		for _, s := range w.plan().Steps {
			switch s := s.(type) {
			case SignalContainer:
				if !stopping[s.Name] {
					t.Errorf("%s without a reason", s)
				}
			case DetachNetwork, RemoveNamespaces, UnmountVolumes, RemoveCgroup:
				t.Errorf("%s of a pod that is wanted", s)
			}
		}
	})
}

// mainsEnded says that the pod is on its way to its end: sidecars are then stopped.
func (w *world) mainsEnded() bool {
	for _, c := range w.o.Containers {
		if c.Kind == Main && c.State == Running {
			return false
		}
	}
	return true
}

func TestClockThatJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"back to 1970": -56 * 365 * 24 * time.Hour, "two years ahead": 2 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(newPod(container("web")))
			w.behave["web"] = func(n int) behaviour {
				if n < 3 {
					return behaviour{exitAfter: time.Second, exitCode: 1}
				}
				return behaviour{}
			}
			w.run(5 * time.Second) // in back-off
			w.start, w.now = w.start.Add(jump), w.now.Add(jump)
			for i := range w.pending {
				w.pending[i].at = w.pending[i].at.Add(jump)
			}
			w.restartAgent()
			w.run(5 * time.Minute)
			if got := w.running(); len(got) != 1 {
				t.Fatalf("web does not run after the jump:\n%v", w.trace)
			}
			w.delete(30)
			w.run(10 * time.Minute)
			if w.left() {
				t.Errorf("left after deletion: %+v", w.o)
			}
		})
	}
}
