package podrun

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"coracle/agent/pod"
)

func withRequest(p *v1.Pod, cpu string) *v1.Pod {
	p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
	return p
}

func twoCPUs(c *Config) {
	c.Allocatable = func() v1.ResourceList {
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse("2"), v1.ResourcePods: resource.MustParse("3")}
	}
}

func TestRejectedPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t, twoCPUs)
		n.store.assign(withRequest(newPod("u1", "web"), "1500m"))
		n.pass(time.Second)
		n.store.assign(withRequest(newPod("u2", "web"), "600m"))
		n.pass(time.Second)
		s, _, _ := n.outbox.Last("u2")
		want := "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
		if s.Phase != v1.PodFailed || s.Reason != "OutOfcpu" || s.Message != "Pod was rejected: "+want || len(s.ContainerStatuses) != 0 {
			t.Errorf("status of a pod that does not fit: %+v", s)
		}
		if event := "Warning OutOfcpu : " + want; !strings.Contains(n.events.all(), event) {
			t.Errorf("events:\n%s\nwant %s", n.events.all(), event)
		}
		if o := n.runtime.pods["u2"]; o != nil && (o.Sandbox != nil || len(o.Containers) > 0) {
			t.Errorf("made for a rejected pod: %+v", o)
		}
		stop()

		// A fresh agent on the full node keeps what it had taken, and turns away no more than before.
		_, stop = n.run(t, twoCPUs)
		defer stop()
		n.pass(time.Second)
		if !n.ready("u1") {
			t.Error("the pod that was admitted is not ready any more")
		}
		n.store.assign(withRequest(newPod("u3", "web"), "600m"))
		n.pass(time.Second)
		if s, _, _ := n.outbox.Last("u3"); s.Reason != "OutOfcpu" {
			t.Errorf("a pod that does not fit after a restart: %+v", s)
		}
		n.store.userDeletes("u1", 0)
		n.pass(5 * time.Second)
		n.store.remove("u1")
		n.pass(time.Second)
		n.store.assign(withRequest(newPod("u4", "web"), "2"))
		n.pass(time.Second)
		if !n.ready("u4") {
			s, _, _ := n.outbox.Last("u4")
			t.Errorf("what was freed is not given again: %+v", s)
		}
	})
}

func TestCriticalPodPreempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t, twoCPUs)
		defer stop()
		n.store.assign(withRequest(newPod("u1", "web"), "1500m"))
		n.pass(time.Second)
		critical := withRequest(newPod("u2", "web"), "1")
		critical.Spec.Priority = ptr.To[int32](2000001000)
		n.store.assign(critical)
		n.pass(5 * time.Second)
		if !n.ready("u2") {
			t.Error("the critical pod is not ready")
		}
		s, _, _ := n.outbox.Last("u1")
		disrupted := v1.ConditionFalse
		for _, c := range s.Conditions {
			if c.Type == v1.DisruptionTarget && c.Reason == v1.PodReasonTerminationByKubelet {
				disrupted = c.Status
			}
		}
		if s.Phase != v1.PodFailed || s.Reason != "Preempting" || disrupted != v1.ConditionTrue {
			t.Errorf("status of the preempted pod: %+v", s)
		}
		if want := "Warning Preempting : Preempted in order to admit critical pod"; !strings.Contains(n.events.all(), want) {
			t.Errorf("events:\n%s\nwant %s", n.events.all(), want)
		}
	})
}

// TestLabelsOnTheirWay: a label that comes a moment after the pod that needs it is in time; one that does not come is not.
func TestLabelsOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
		_, stop := n.run(t, func(c *Config) { c.Node = func() *v1.Node { return node } })
		defer stop()
		selects := func(uid, disk string) *v1.Pod {
			p := newPod(uid, "web")
			p.Spec.NodeSelector = map[string]string{"disk": disk}
			return p
		}
		n.store.assign(selects("u1", "ssd"))
		n.store.assign(selects("u2", "tape"))
		n.pass(time.Second)
		if _, _, ok := n.outbox.Last("u1"); ok {
			t.Error("decided at once, though the labels may be on their way")
		}
		node = &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"disk": "ssd"}}}
		n.pass(5 * time.Second)
		if !n.ready("u1") {
			t.Error("not ready, though the label has come")
		}
		if s, _, _ := n.outbox.Last("u2"); s.Reason != "NodeAffinity" || s.Message != "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector" {
			t.Errorf("a pod whose label never came: %+v", s)
		}
	})
}

// TestEnd: whatever else ends pods gives its own words, and grace.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["web"] = behaviour{ignoreTerm: true}
		closed := false
		r, stop := n.run(t, func(c *Config) {
			c.Admission = func(*v1.Pod) *pod.Rejection {
				if closed {
					return &pod.Rejection{Reason: "NodeShutdown", Message: "Pod was rejected as the node is shutting down."}
				}
				return nil
			}
		})
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		began := time.Now()
		if !r.End("u1", pod.Failed{Reason: "Evicted", Message: "The node was low on resource: memory.", Disruption: v1.PodReasonTerminationByKubelet, GraceSeconds: ptr.To[int64](0)}) {
			t.Fatal("no such pod")
		}
		if r.End("u9", pod.Failed{Reason: "Evicted"}) {
			t.Error("a pod that does not exist was ended")
		}
		closed = true
		n.store.assign(newPod("u2", "web"))
		n.pass(4 * time.Second)
		s, _, _ := n.outbox.Last("u1")
		if s.Phase != v1.PodFailed || s.Reason != "Evicted" || s.Message != "The node was low on resource: memory." {
			t.Errorf("status of the evicted pod after %s: %+v", time.Since(began), s)
		}
		if s, _, _ := n.outbox.Last("u2"); s.Reason != "NodeShutdown" {
			t.Errorf("status of a pod that came too late: %+v", s)
		}
	})
}
