package podrun

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/store"
)

func TestPodLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		r, stop := n.run(t)
		defer stop()
		n.store.setComplete()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		if !n.ready("u1") {
			t.Fatalf("not ready: %+v\n%s", n.outbox.last["u1"], n.events.all())
		}
		if views := r.Snapshot(); len(views) != 1 || !views[0].Ready || views[0].PodIP != "10.0.0.7" || views[0].Containers[0].State != "running" {
			t.Errorf("snapshot: %+v", views)
		}
		logs := filepath.Join(n.logDir, "default_pod-u1_u1", "web")
		if _, err := os.Stat(logs); err != nil {
			t.Error(err)
		}
		n.store.userDeletes("u1", 30)
		n.pass(time.Second)
		if s, released, _ := n.outbox.Last("u1"); !released || s.ContainerStatuses[0].State.Terminated.ExitCode != 143 {
			t.Fatalf("released %v, status %+v", released, s)
		}
		n.store.remove("u1")
		n.pass(time.Second)
		if left := n.left("u1"); left != "" {
			t.Errorf("left: %s", left)
		}
		if views := r.Snapshot(); len(views) != 0 {
			t.Errorf("still known: %+v", views)
		}
		if dirs, _ := filepath.Glob(filepath.Join(n.logDir, "*")); len(dirs) != 0 {
			t.Errorf("logs left: %v", dirs)
		}
		want := strings.Join([]string{
			`Normal Pulled spec.containers{web}: Container image "web:1" already present on machine and can be accessed by the pod`,
			`Normal Created spec.containers{web}: Container created`,
			`Normal Started spec.containers{web}: Container started`,
			`Normal Killing spec.containers{web}: Stopping container web`,
		}, "\n")
		if diff := cmp.Diff(want, n.events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// TestPreparationRunsAtOnce: what does not depend on each other overlaps, because the time to Ready is a budget.
func TestPreparationRunsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.images.takes = map[string]time.Duration{"web:1": 100 * time.Millisecond}
		n.network.takes, n.volumes.takes = 100*time.Millisecond, 100*time.Millisecond
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(121 * time.Millisecond) // 100 for all three, 20 for create and start
		if !n.ready("u1") {
			t.Errorf("not ready after 121 ms: %+v", n.outbox.last["u1"])
		}
		n.images.takes, n.volumes.takes = nil, 0
		n.store.assign(newPod("u2", "web"))
		n.pass(111 * time.Millisecond) // 100 for the network while the container is made, 10 for its start
		if !n.ready("u2") {
			t.Errorf("not ready after 111 ms: %+v", n.outbox.last["u2"])
		}
	})
}

func TestSlowPullBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.images.takes = map[string]time.Duration{"slow:1": time.Hour}
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "slow", "quick"))
		n.store.assign(newPod("u2", "web"))
		n.pass(2 * time.Second)
		if !n.ready("u2") {
			t.Error("another pod waits for the pull")
		}
		if n.runtime.starts["u1-quick-0"] != 1 {
			t.Error("the other container of the same pod waits for the pull")
		}
		n.runtime.exit("u1-quick-0", 1)
		n.pass(time.Second)
		if n.runtime.starts["u1-quick-1"] != 1 {
			t.Error("a container that exits is not restarted while another is pulled")
		}
		n.store.userDeletes("u1", 1)
		n.pass(3 * time.Second)
		if _, released, _ := n.outbox.Last("u1"); !released {
			t.Error("the pod cannot be deleted during a pull")
		}
	})
}

func TestOrphansWaitForComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		stop()
		delete(n.store.pods, "u1") // another store, or one that was rebuilt
		_, stop = n.run(t)
		defer stop()
		n.pass(time.Hour)
		if n.left("u1") == "" || len(n.runtime.signals) > 0 {
			t.Fatalf("touched before the store was complete: %v", n.runtime.signals)
		}
		n.store.setComplete()
		n.pass(10 * time.Second)
		if left := n.left("u1"); left != "" {
			t.Errorf("left after complete: %s", left)
		}
	})
}

// A container goes after its logs: an agent that is killed in between finds the container, and nothing finds logs alone.
func TestLogsGoBeforeTheirContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		dir := filepath.Join(n.logDir, "default_pod-u1_u1")
		if _, err := os.Stat(dir); err != nil {
			t.Fatal(err)
		}
		n.runtime.refuseRemove = errors.New("killed here")
		n.store.userDeletes("u1", 0)
		n.pass(time.Minute)
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("logs without their container: %v", err)
		}
		if left := n.left("u1"); left == "" {
			t.Error("the container went all the same")
		}
	})
}

func TestUnreadableIsNotAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.store.setComplete()
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		n.store.assign(p)
		n.pass(time.Second)
		n.store.change(store.Change{Kind: store.KindPod, UID: "u1"}, func() {
			delete(n.store.pods, "u1")
			n.store.unreadable = []types.UID{"u1"}
		})
		n.pass(time.Hour)
		if len(n.runtime.signals) > 0 || n.runtime.starts["u1-web-0"] != 1 {
			t.Errorf("a pod whose object cannot be read was touched: %v", n.runtime.signals)
		}
	})
}

func TestStepBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.network.fails = 4
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Minute)
		if !n.ready("u1") {
			t.Fatal("not ready")
		}
		for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
			got := n.network.tries[i+1].Sub(n.network.tries[i])
			if got < want*9/10 || got > want*11/10+10*time.Millisecond {
				t.Errorf("try %d came after %s, want about %s", i+2, got, want)
			}
		}
		if want := "Warning FailedCreatePodSandBox : Failed to create pod sandbox: plugin bridge: no addresses left"; !strings.Contains(n.events.all(), want) {
			t.Errorf("events:\n%s\nwant %s", n.events.all(), want)
		}
		if n.runtime.starts["u1-web-0"] != 1 {
			t.Errorf("starts: %v", n.runtime.starts)
		}
	})
}

// TestDoorWithoutEffect: a door that says it did what it did not must not make the worker spin.
func TestDoorWithoutEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.store.setComplete()
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		n.cgroups.stubborn = true
		n.store.userDeletes("u1", 1)
		n.pass(10 * time.Minute)
		if n.cgroups.removals > 20 {
			t.Errorf("%d tries in 10 minutes", n.cgroups.removals)
		}
		n.cgroups.stubborn = false
		n.pass(2 * time.Minute)
		if _, released, _ := n.outbox.Last("u1"); !released {
			t.Error("not released once it works")
		}
	})
}

func TestFactsComeBeforeEffects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.store.putFails = errors.New("no space left on device")
		r, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Minute)
		if left := n.left("u1"); left != "" {
			t.Fatalf("acted without remembering: %s", left)
		}
		if v := r.Snapshot(); len(v) != 1 || !strings.Contains(v[0].Error, "no space left") {
			t.Errorf("snapshot does not say why: %+v", v)
		}
		n.store.mu.Lock()
		n.store.putFails = nil
		n.store.mu.Unlock()
		n.pass(2 * time.Minute)
		if !n.ready("u1") {
			t.Error("not ready once the disk has room")
		}
	})
}

func TestAgentRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		n.store.assign(newPod("u1", "web", "other"))
		n.pass(time.Minute)
		before, _, _ := n.outbox.Last("u1")
		stop()
		changes := n.outbox.changes
		_, stop = n.run(t)
		n.pass(time.Minute)
		if n.outbox.changes != changes {
			after, _, _ := n.outbox.Last("u1")
			t.Errorf("a restart of the agent changed the status:\n%s", cmp.Diff(before, after))
		}
		if len(n.runtime.signals) > 0 || n.runtime.starts["u1-web-0"] != 1 {
			t.Errorf("a restart of the agent touched containers: %v %v", n.runtime.signals, n.runtime.starts)
		}
		stop()
		n.runtime.exit("u1-web-0", 1)
		n.pass(time.Hour)
		_, stop = n.run(t)
		defer stop()
		n.pass(time.Second)
		if n.runtime.starts["u1-web-1"] != 1 || n.runtime.starts["u1-other-0"] != 1 {
			t.Errorf("starts after an exit while down: %v", n.runtime.starts)
		}
	})
}

func TestConfigMapArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.Spec.Containers[0].EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}}}
		n.store.assign(p)
		n.pass(5 * time.Minute)
		if reason, message := n.waiting("u1"); reason != "CreateContainerConfigError" || message != `configmap "settings" not found` {
			t.Fatalf("waiting: %s: %s", reason, message)
		}
		n.store.change(store.Change{Kind: store.KindConfigMap, Namespace: "default", Name: "settings"}, func() {
			n.store.configMaps["settings"] = &v1.ConfigMap{Data: map[string]string{"COLOUR": "blue"}}
		})
		n.pass(100 * time.Millisecond)
		if !n.ready("u1") {
			t.Error("not started as soon as the ConfigMap is there")
		}
		if env := n.runtime.specs[0].Env; len(env) != 1 || env[0] != (pod.EnvVar{Name: "COLOUR", Value: "blue"}) {
			t.Errorf("env: %v", env)
		}
	})
}

// What a container's definition refers to in its own pod may come as late as a ConfigMap.
func TestAnnotationArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.ResourceVersion = "1"
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
		c := &p.Spec.Containers[0]
		c.Env = []v1.EnvVar{{Name: "PART", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.annotations['part']"}}}}
		c.VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/data", SubPathExpr: "$(PART)"}}
		n.store.assign(p)
		n.pass(5 * time.Minute)
		if reason, message := n.waiting("u1"); reason != "CreateContainerConfigError" || !strings.Contains(message, "missing value for PART") {
			t.Fatalf("waiting: %s: %s", reason, message)
		}
		p = p.DeepCopy()
		p.ResourceVersion, p.Annotations = "2", map[string]string{"part": "here"}
		n.store.assign(p)
		n.pass(100 * time.Millisecond)
		if !n.ready("u1") {
			t.Error("not started as soon as the annotation is there")
		}
	})
}

func TestManyPodsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.store.setComplete()
		r, stop := n.run(t, func(c *Config) { c.MaxStarts = 3 })
		defer stop()
		for i := range 100 {
			n.store.assign(newPod(fmt.Sprintf("u%d", i), "a", "b"))
		}
		n.pass(time.Minute)
		for i := range 100 {
			if !n.ready(types.UID(fmt.Sprintf("u%d", i))) {
				t.Fatalf("pod %d is not ready", i)
			}
		}
		if n.runtime.top > 3 {
			t.Errorf("%d starts at a time, want at most 3", n.runtime.top)
		}
		for id, c := range n.runtime.starts {
			if c != 1 {
				t.Errorf("%s started %d times", id, c)
			}
		}
		for i := range 100 {
			n.store.userDeletes(types.UID(fmt.Sprintf("u%d", i)), 5)
		}
		n.pass(time.Minute)
		for i := range 100 {
			n.store.remove(types.UID(fmt.Sprintf("u%d", i)))
		}
		n.pass(time.Minute)
		for i := range 100 {
			if left := n.left(types.UID(fmt.Sprintf("u%d", i))); left != "" {
				t.Errorf("pod %d left: %s", i, left)
			}
		}
		if v := r.Snapshot(); len(v) > 0 {
			t.Errorf("%d pods still known", len(v))
		}
	})
}

func TestNothingIsWrittenAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		defer stop()
		for i := range 10 {
			n.store.assign(newPod(fmt.Sprintf("u%d", i), "web"))
		}
		n.pass(time.Minute)
		puts, changes, events, observes := n.store.puts, n.outbox.changes, len(n.events.list), n.runtime.observes
		n.pass(24 * time.Hour)
		if n.store.puts != puts || n.outbox.changes != changes || len(n.events.list) != events {
			t.Errorf("in a day at rest: %d facts written, %d statuses said, %d events", n.store.puts-puts, n.outbox.changes-changes, len(n.events.list)-events)
		}
		if looks := n.runtime.observes - observes; looks > 10*300 {
			t.Errorf("%d looks at 10 pods in a day; the resync alone needs 2,880", looks)
		}
	})
}

func TestTokensAreRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.volumes.refreshAt = 48 * time.Minute
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Minute)
		if n.volumes.ensured != 1 {
			t.Fatalf("volumes ensured %d times at the start", n.volumes.ensured)
		}
		n.pass(4 * time.Hour)
		if n.volumes.ensured != 6 {
			t.Errorf("volumes ensured %d times in 4 hours, want the first and 5 refreshes", n.volumes.ensured)
		}
	})
}
