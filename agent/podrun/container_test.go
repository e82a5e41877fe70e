package podrun

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"coracle/agent/image"
	"coracle/internal/fault"
)

func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var order []string
		n.runtime.behave["web"] = behaviour{exec: func(ctx context.Context, command []string) (int, error) {
			order = append(order, fmt.Sprintf("%s after %v", command[0], n.runtime.signals))
			<-time.After(2 * time.Second)
			return 0, nil
		}}
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{
			PostStart: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"warm-up"}}},
			PreStop:   &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"drain"}}},
		}
		n.store.assign(p)
		n.pass(time.Second)
		if n.ready("u1") {
			t.Error("ready before postStart has ended")
		}
		n.pass(2 * time.Second)
		if !n.ready("u1") {
			t.Error("not ready after postStart")
		}
		n.store.userDeletes("u1", 30)
		n.pass(5 * time.Second)
		if diff := cmp.Diff([]string{"warm-up after []", "drain after []"}, order); diff != "" {
			t.Errorf("hooks (-want +got):\n%s", diff)
		}
		if _, released, _ := n.outbox.Last("u1"); !released {
			t.Errorf("not released; signals %v", n.runtime.signals)
		}
	})
}

func TestPreStopEndsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["web"] = behaviour{ignoreTerm: true, exec: func(ctx context.Context, _ []string) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}}
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"hang"}}}}
		n.store.assign(p)
		n.pass(time.Second)
		n.store.userDeletes("u1", 10)
		n.pass(9 * time.Second)
		if len(n.runtime.signals) > 0 {
			t.Fatalf("signalled before the hook or the grace ended: %v", n.runtime.signals)
		}
		n.pass(4 * time.Second)
		if diff := cmp.Diff([]string{"u1-web-0 ", "u1-web-0 SIGKILL"}, n.runtime.signals); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	})
}

// An attempt that the node itself has ended leaves its deadline behind; the next attempt's hook has nothing to do with it.
func TestPreStopHasItsGraceAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["web"] = behaviour{exec: func(ctx context.Context, command []string) (int, error) {
			if command[0] == "live" {
				n.runtime.mu.Lock()
				defer n.runtime.mu.Unlock()
				return 1 - n.runtime.starts["u1-web-1"], nil // the first attempt fails, the second is well
			}
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(3 * time.Second):
				return 0, nil
			}
		}}
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](5)
		c := &p.Spec.Containers[0]
		c.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Exec: &v1.ExecAction{Command: []string{"drain"}}}}
		c.LivenessProbe = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"live"}}}, PeriodSeconds: 1, FailureThreshold: 1}
		n.store.assign(p)
		n.pass(time.Minute)
		if n.runtime.starts["u1-web-1"] != 1 {
			t.Fatalf("not restarted after the liveness probe failed: %v", n.runtime.starts)
		}
		n.store.userDeletes("u1", 10)
		n.pass(2 * time.Second)
		if want := []string{"u1-web-0 "}; !cmp.Equal(want, n.runtime.signals) {
			t.Errorf("signals %q while the hook runs, want %q", n.runtime.signals, want)
		}
		n.pass(8 * time.Second)
		if strings.Contains(n.events.all(), "FailedPreStopHook") {
			t.Errorf("a hook was cut short:\n%s", n.events.all())
		}
	})
}

func TestCrashLoopIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["web"] = behaviour{exitAfter: time.Second, exitCode: 1}
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(25 * time.Second)
		reason, message := n.waiting("u1")
		if reason != "CrashLoopBackOff" || message != "back-off 20s restarting failed container=web pod=pod-u1_default(u1)" {
			t.Errorf("waiting: %s: %s", reason, message)
		}
		want := "Warning BackOff spec.containers{web}: Back-off restarting failed container web in pod pod-u1_default(u1)"
		if got := strings.Count(n.events.all(), want); got != 2 {
			t.Errorf("BackOff was told %d times in two waits:\n%s", got, n.events.all())
		}
	})
}

func TestImagePullBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.images.fails = map[string]error{"web:1": errors.New("registry says: no such image")}
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		if reason, message := n.waiting("u1"); reason != "ErrImagePull" || message != "registry says: no such image" {
			t.Errorf("first: %s: %s", reason, message)
		}
		n.pass(10 * time.Minute)
		if reason, message := n.waiting("u1"); reason != "ImagePullBackOff" || message != `Back-off pulling image "web:1": ErrImagePull: registry says: no such image` {
			t.Errorf("later: %s: %s", reason, message)
		}
		if got := len(n.images.pulls); got != 6 { // at 0, 10, 30, 70, 150, 310 s
			t.Errorf("%d pulls in 10 minutes, want 6", got)
		}
		p := newPod("u1", "web")
		p.Spec.Containers[0].Image, p.ResourceVersion = "web:2", "2"
		n.store.assign(p)
		n.pass(time.Second)
		if !n.ready("u1") {
			t.Error("a corrected image is not pulled at once")
		}
	})
}

// TestImageTroublesInKubernetesWords: what people and programs look for in reasons and events.
func TestImageTroublesInKubernetesWords(t *testing.T) {
	for _, tc := range []struct {
		err             *image.Error
		reason, message string
		event           string
	}{
		{&image.Error{Reason: image.ReasonNeverPull, Err: errors.New("not there")}, "ErrImageNeverPull",
			`Container image "web:1" is not present with pull policy of Never`, "ErrImageNeverPull"},
		{&image.Error{Reason: image.ReasonInvalidName, Err: errors.New(`couldn't parse image name "web:1": invalid reference format`)}, "InvalidImageName",
			`Failed to apply default image tag "web:1": couldn't parse image name "web:1": invalid reference format`, "InspectFailed"},
		{&image.Error{Reason: image.ReasonInspect, Err: errors.New("disk says no")}, "ImageInspectError", `Failed to inspect image "web:1": disk says no`, "InspectFailed"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.images.fails = map[string]error{"web:1": tc.err}
				_, stop := n.run(t)
				defer stop()
				p := newPod("u1", "web")
				p.Spec.Containers[0].ImagePullPolicy = v1.PullNever
				n.store.assign(p)
				n.pass(time.Minute)
				if reason, message := n.waiting("u1"); reason != tc.reason || message != tc.message {
					t.Errorf("waits for %s: %s", reason, message)
				}
				for _, want := range []string{
					"Warning " + tc.event + " spec.containers{web}: " + tc.message,
					"Warning Failed spec.containers{web}: Error: " + tc.reason,
				} {
					if !strings.Contains(n.events.all(), want) {
						t.Errorf("events:\n%s\nwant %s", n.events.all(), want)
					}
				}
				// Somebody brings the image: it is found within half a minute, however long it took.
				n.pass(20 * time.Minute)
				n.images.fails = nil
				n.pass(31 * time.Second)
				if !n.ready("u1") {
					t.Error("an image that was brought to the node is not found")
				}
			})
		})
	}
}

// TestRestartWithoutRegistry: a node without a network restarts what it ran, whatever the pull policy.
func TestRestartWithoutRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		defer stop()
		p, fresh := newPod("u1", "web"), newPod("u2", "web")
		for _, p := range []*v1.Pod{p, fresh} {
			p.Spec.Containers[0].ImagePullPolicy = v1.PullAlways
		}
		n.store.assign(p)
		n.pass(time.Second)
		n.images.fails = map[string]error{"web:1": fault.As(fault.ErrUnavailable, errors.New("no route to host"))}
		n.runtime.exit("u1-web-0", 1)
		n.store.assign(fresh)
		n.pass(time.Second)
		if n.runtime.starts["u1-web-1"] != 1 {
			t.Errorf("not restarted: %v\n%s", n.runtime.starts, n.events.all())
		}
		if reason, _ := n.waiting("u2"); reason != "ErrImagePull" {
			t.Errorf("a new pod waits for %q, want ErrImagePull", reason)
		}
	})
}

func TestCommandThatCannotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["web"] = behaviour{startFails: errors.New(`exec: "nope": executable file not found in $PATH`)}
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.Spec.RestartPolicy = v1.RestartPolicyNever
		n.store.assign(p)
		n.pass(time.Minute)
		s, _, _ := n.outbox.Last("u1")
		end := s.ContainerStatuses[0].State.Terminated
		if s.Phase != v1.PodFailed || end == nil || end.Reason != "StartError" || end.ExitCode != 128 {
			t.Errorf("status: %+v", s)
		}
		if !strings.Contains(n.events.all(), `Warning Failed spec.containers{web}: Error: exec: "nope"`) {
			t.Errorf("events:\n%s", n.events.all())
		}
	})
}

func TestSubPathsAreResolved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "POD", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/data", SubPathExpr: "$(POD)/x"}}
		p.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: ptr.To[int64](7)}
		n.store.assign(p)
		n.pass(time.Second)
		spec := n.runtime.specs[0]
		if m := spec.Mounts[0]; m.HostPath != "/sub/pod-u1/x" || m.SubPath != "" || m.ContainerPath != "/data" {
			t.Errorf("mount: %+v", m)
		}
		if spec.CgroupParent != "/coracle/podu1" || spec.LogPath != filepath.Join(n.logDir, "default_pod-u1_u1", "web", "0.log") || *spec.Security.RunAsUser != 7 {
			t.Errorf("spec: %+v", spec)
		}
	})
}

func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		healthy := map[string]bool{"startup": true}
		n.runtime.behave["web"] = behaviour{exec: func(_ context.Context, command []string) (int, error) {
			n.runtime.mu.Lock()
			defer n.runtime.mu.Unlock()
			if healthy[command[0]] {
				return 0, nil
			}
			return 1, nil
		}}
		set := func(name string, to bool) {
			n.runtime.mu.Lock()
			defer n.runtime.mu.Unlock()
			healthy[name] = to
		}
		set("live", true)
		_, stop := n.run(t)
		p := newPod("u1", "web")
		c := &p.Spec.Containers[0]
		for name, at := range map[string]**v1.Probe{"startup": &c.StartupProbe, "ready": &c.ReadinessProbe, "live": &c.LivenessProbe} {
			*at = &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{name}}}, PeriodSeconds: 5}
		}
		n.store.assign(p)
		n.pass(12 * time.Second)
		if s, _, _ := n.outbox.Last("u1"); n.ready("u1") || !*s.ContainerStatuses[0].Started {
			t.Fatalf("want started and not ready: %+v", s.ContainerStatuses)
		}
		set("ready", true)
		n.pass(6 * time.Second)
		if !n.ready("u1") {
			t.Fatal("not ready although the probe passes")
		}
		stop()
		set("ready", false)
		changes := n.outbox.changes
		_, stop = n.run(t)
		defer stop()
		n.pass(4 * time.Second)
		if !n.ready("u1") || n.outbox.changes != changes {
			t.Error("a restart of the agent flipped Ready before its own probes could tell")
		}
		n.pass(20 * time.Second)
		if n.ready("u1") {
			t.Error("still ready although the probe fails")
		}
		set("live", false)
		n.pass(20 * time.Second)
		if n.runtime.starts["u1-web-1"] != 1 {
			t.Errorf("not restarted after the liveness probe failed: %v", n.runtime.starts)
		}
		for _, want := range []string{
			`Warning Unhealthy spec.containers{web}: Readiness probe failed: command "ready" exited with 1`,
			`Normal Killing spec.containers{web}: Container web failed liveness probe, will be restarted`,
		} {
			if !strings.Contains(n.events.all(), want) {
				t.Errorf("events lack %s:\n%s", want, n.events.all())
			}
		}
	})
}
