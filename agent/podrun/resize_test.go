package podrun

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"coracle/agent/pod"
)

// resized is the pod with another request for CPU.
func resized(p *v1.Pod, cpu string) *v1.Pod {
	p = withRequest(p.DeepCopy(), cpu)
	p.Generation++
	p.ResourceVersion += "0"
	return p
}

func conditionIn(s v1.PodStatus, t v1.PodConditionType) v1.PodCondition {
	if c := conditionOf(s.Conditions, t); c != nil {
		return *c
	}
	return v1.PodCondition{}
}

// TestResize: what fits is carried out and told; what does not waits for the other pod to go; the container is not restarted.
func TestResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t, twoCPUs)
		defer stop()
		first, second := withRequest(newPod("u1", "web"), "500m"), withRequest(newPod("u2", "web"), "1")
		n.store.assign(first)
		n.store.assign(second)
		n.pass(time.Second)

		first = resized(first, "1")
		n.store.assign(first)
		n.pass(time.Second)
		s, _, _ := n.outbox.Last("u1")
		if got := s.ContainerStatuses[0]; got.Resources.Requests.Cpu().String() != "1" || got.RestartCount != 0 || conditionIn(s, v1.PodResizeInProgress).Status != "" {
			t.Errorf("resized to 1: %+v", s)
		}
		first = resized(first, "1500m")
		n.store.assign(first)
		n.pass(30 * time.Second)
		s, _, _ = n.outbox.Last("u1")
		if c := conditionIn(s, v1.PodResizePending); c.Reason != v1.PodReasonDeferred || s.ContainerStatuses[0].AllocatedResources.Cpu().String() != "1" {
			t.Errorf("without room: %+v", s)
		}
		n.store.remove("u2")
		n.pass(30 * time.Second)
		s, _, _ = n.outbox.Last("u1")
		if got := s.ContainerStatuses[0]; got.Resources.Requests.Cpu().String() != "1500m" || n.runtime.starts["u1-web-0"] != 1 {
			t.Errorf("with room: %+v", s)
		}
		for _, want := range []string{"Normal ResizeStarted", "Normal ResizeCompleted", "Warning ResizeDeferred"} {
			if !strings.Contains(n.events.all(), want) {
				t.Errorf("events:\n%s\nwant %s", n.events.all(), want)
			}
		}
	})
}

// TestResizeIsRefused: what containerd says is the pod's condition, and the resize goes on when that has passed.
func TestResizeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t, twoCPUs)
		defer stop()
		p := withRequest(newPod("u1", "web"), "500m")
		n.store.assign(p)
		n.pass(time.Second)
		n.runtime.refuseUpdate = errors.New("no such luck")
		n.store.assign(resized(p, "1"))
		n.pass(10 * time.Second)
		s, _, _ := n.outbox.Last("u1")
		if c := conditionIn(s, v1.PodResizeInProgress); c.Reason != v1.PodReasonError || !strings.Contains(c.Message, "no such luck") {
			t.Errorf("condition: %+v", c)
		}
		n.runtime.mu.Lock()
		n.runtime.refuseUpdate = nil
		n.runtime.mu.Unlock()
		n.pass(2 * time.Minute)
		s, _, _ = n.outbox.Last("u1")
		if conditionIn(s, v1.PodResizeInProgress).Status != "" || s.ContainerStatuses[0].Resources.Requests.Cpu().String() != "1" {
			t.Errorf("status: %+v", s)
		}
	})
}

// TestStorageLimits: a pod that writes more than it may is evicted in Kubernetes' words; others are not even measured.
func TestStorageLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		defer stop()
		greedy, plain := newPod("u1", "web"), newPod("u2", "other")
		greedy.Spec.Containers[0].Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse("1Mi")}
		n.store.assign(greedy)
		n.store.assign(plain)
		n.pass(30 * time.Second)
		if !n.ready("u1") {
			t.Fatal("evicted without having written")
		}
		n.runtime.mu.Lock()
		n.runtime.written = map[string]int64{"web": 2 << 20, "other": 2 << 20}
		n.runtime.mu.Unlock()
		n.pass(30 * time.Second)
		s, _, _ := n.outbox.Last("u1")
		if s.Phase != v1.PodFailed || s.Reason != "Evicted" || s.Message != `Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ` {
			t.Errorf("status: %+v", s)
		}
		if c := conditionIn(s, v1.DisruptionTarget); c.Reason != v1.PodReasonTerminationByKubelet {
			t.Errorf("condition: %+v", c)
		}
		if !n.ready("u2") {
			t.Error("a pod without limits was evicted")
		}
	})
}

// What an emptyDir and the logs hold counts as well.
func TestMeasureStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		r, stop := n.run(t)
		defer stop()
		p := newPod("u1", "web")
		p.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("1Mi"))}}}}
		n.store.assign(p)
		n.pass(time.Second)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 64<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		w := r.find("u1")
		logs := filepath.Join(w.logDir(p.Namespace, p.Name), "web")
		if err := os.MkdirAll(logs, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(logs, "0.log"), make([]byte, 32<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := n.runtime.Observe(t.Context(), "u1")
		if err != nil {
			t.Fatal(err)
		}
		use, err := w.measureStorage(t.Context(), p, map[string]string{"d": dir}, map[string]pod.Container{"web": o.Containers[0]})
		if err != nil || use.EmptyDirs["d"] < 64<<10 || use.Containers["web"] < 32<<10 {
			t.Errorf("measured %+v, %v", use, err)
		}
	})
}
