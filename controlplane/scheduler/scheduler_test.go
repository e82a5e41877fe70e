package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"coracle/controlplane/controller/podview"
)

// cluster is a scheduler that runs against an API in memory which carries bindings out.
type cluster struct {
	*fake.Clientset
	t *testing.T
	// refuse, if set, answers a binding instead.
	refuse func(*corev1.Binding) error
}

func run(t *testing.T, test func(c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{Clientset: fake.NewClientset(), t: t}
		c.PrependReactor("create", "pods", func(a k8stesting.Action) (bool, runtime.Object, error) {
			create, ok := a.(k8stesting.CreateAction)
			if !ok || a.GetSubresource() != "binding" {
				return false, nil, nil
			}
			b := create.GetObject().(*corev1.Binding)
			if c.refuse != nil {
				if err := c.refuse(b); err != nil {
					return true, nil, err
				}
			}
			return true, b, c.place(a.GetNamespace(), b.Name, b.Target.Name)
		})
		factory := informers.NewSharedInformerFactory(c, 0)
		s, err := New(Config{Client: c, Informers: factory, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		factory.Start(ctx.Done())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		pass(time.Second) // client-go looks every 100 ms whether the first lists are there
		synctest.Wait()
		test(c)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		factory.Shutdown()
	})
}

func (c *cluster) place(namespace, name, node string) error {
	obj, err := c.Tracker().Get(corev1.SchemeGroupVersion.WithResource("pods"), namespace, name)
	if err != nil {
		return err
	}
	pod := obj.(*corev1.Pod).DeepCopy()
	pod.Spec.NodeName = node
	return c.Tracker().Update(corev1.SchemeGroupVersion.WithResource("pods"), pod, namespace)
}

func (c *cluster) addNode(name, cpu string) {
	c.t.Helper()
	_, err := c.CoreV1().Nodes().Create(c.t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("200"),
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait() // nodes and pods come by watches of their own: else a pod may be looked at before the node is there
}

func (c *cluster) addPod(name, cpu string, change ...func(*corev1.Pod)) {
	c.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)},
		Spec: corev1.PodSpec{SchedulerName: Name, Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)},
		}}}},
	}
	for _, f := range change {
		f(p)
	}
	if _, err := c.CoreV1().Pods("default").Create(c.t.Context(), p, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) pod(name string) *corev1.Pod {
	c.t.Helper()
	p, err := c.CoreV1().Pods("default").Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *cluster) wantNode(name, node string) {
	c.t.Helper()
	synctest.Wait()
	if got := c.pod(name).Spec.NodeName; got != node {
		c.t.Errorf("pod %s is on %q, want %q", name, got, node)
	}
}

func (c *cluster) wantEvent(reason, message string) {
	c.t.Helper()
	synctest.Wait()
	list, err := c.CoreV1().Events("default").List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var got []string
	for _, e := range list.Items {
		if e.Reason == reason && e.Message == message && e.Source.Component == Name {
			return
		}
		got = append(got, e.Reason+": "+e.Message)
	}
	c.t.Errorf("no event %s: %s; there are %q", reason, message, got)
}

func TestBindsAndTells(t *testing.T) {
	run(t, func(c *cluster) {
		c.addNode("n1", "4")
		c.addPod("p", "1")
		c.wantNode("p", "n1")
		c.wantEvent("Scheduled", "Successfully assigned default/p to n1")
	})
}

func TestExplainsAndTriesAgain(t *testing.T) {
	run(t, func(c *cluster) {
		c.addNode("n1", "2")
		c.addPod("first", "2")
		c.wantNode("first", "n1")
		c.addPod("second", "1")
		c.wantNode("second", "")
		const message = "0/1 nodes are available: 1 Insufficient cpu."
		c.wantEvent("FailedScheduling", message)
		cond := podview.Condition(c.pod("second"), corev1.PodScheduled)
		if cond == nil || cond.Status != corev1.ConditionFalse || cond.Reason != corev1.PodReasonUnschedulable || cond.Message != message {
			t.Errorf("PodScheduled is %+v", cond)
		}
		pass(time.Minute)
		if err := c.CoreV1().Pods("default").Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.wantNode("second", "n1")
	})
}

func TestANewNodeHelpsAndAnOldConditionIsNotRepeated(t *testing.T) {
	run(t, func(c *cluster) {
		c.addPod("p", "1")
		synctest.Wait()
		c.ClearActions()
		pass(parkedLimit + time.Second)
		synctest.Wait()
		for _, a := range c.Actions() {
			if a.GetVerb() == "patch" && a.GetResource().Resource == "pods" {
				t.Errorf("wrote the condition again: %v", a)
			}
		}
		c.addNode("n1", "2")
		pass(delayCap)
		c.wantNode("p", "n1")
	})
}

func TestGatesAndForeignSchedulers(t *testing.T) {
	run(t, func(c *cluster) {
		c.addNode("n1", "4")
		c.addPod("gated", "1", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}} })
		c.addPod("foreign", "1", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" })
		c.wantNode("gated", "")
		c.wantNode("foreign", "")
		if cond := podview.Condition(c.pod("gated"), corev1.PodScheduled); cond == nil || cond.Reason != corev1.PodReasonSchedulingGated {
			t.Errorf("PodScheduled is %+v", cond)
		}
		p := c.pod("gated")
		p.Spec.SchedulingGates = nil
		if _, err := c.CoreV1().Pods("default").Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.wantNode("gated", "n1")
	})
}

// A refused binding frees the node for others and is tried again; one that was carried out though the answer was an
// error is taken as it is.
func TestRefusedBinding(t *testing.T) {
	run(t, func(c *cluster) {
		c.addNode("n1", "2")
		refused := 0
		c.refuse = func(b *corev1.Binding) error {
			switch {
			case b.Name == "refused" && refused < 2:
				refused++
				return errors.New("etcd is away")
			case b.Name == "lost answer":
				if err := c.place("default", b.Name, b.Target.Name); err != nil {
					t.Error(err)
				}
				return errors.New("connection reset")
			}
			return nil
		}
		c.addPod("refused", "1")
		c.wantNode("refused", "")
		c.addPod("lost answer", "1")
		c.wantNode("lost answer", "n1")
		pass(4 * time.Second)
		c.wantNode("refused", "n1")
		c.wantEvent("FailedScheduling", "binding to node n1: etcd is away")
		c.wantEvent("Scheduled", "Successfully assigned default/lost answer to n1")
	})
}

func TestAnotherSchedulerWasQuicker(t *testing.T) {
	run(t, func(c *cluster) {
		c.addNode("n1", "1")
		c.refuse = func(b *corev1.Binding) error {
			if b.Name != "p" {
				return nil
			}
			if err := c.place("default", "p", "elsewhere"); err != nil {
				t.Error(err)
			}
			return errors.New("pod p is already assigned to node")
		}
		c.addPod("p", "1")
		c.wantNode("p", "elsewhere")
		c.addPod("q", "1") // what p was assumed to take on n1 is free
		c.wantNode("q", "n1")
	})
}

// A hundred pods at once: no node gets more than it has, though no binding was seen yet when the next was decided.
func TestAHundredAtOnce(t *testing.T) {
	run(t, func(c *cluster) {
		for i := range 5 {
			c.addNode(fmt.Sprint("n", i), "20")
		}
		for i := range 102 {
			c.addPod(fmt.Sprint("p", i), "1")
		}
		synctest.Wait()
		list, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int{}
		for _, p := range list.Items {
			counts[p.Spec.NodeName]++
		}
		for i := range 5 {
			if n := counts[fmt.Sprint("n", i)]; n != 20 {
				t.Errorf("node n%d has %d pods of 20", i, n)
			}
		}
		if counts[""] != 2 {
			t.Errorf("%d pods have no node, want 2", counts[""])
		}
	})
}

func TestAssumptionsExpire(t *testing.T) {
	s := newState()
	now := time.Unix(1000, 0)
	s.setNode("n", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{
		Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")},
	}})
	if d := s.decide(pending("never seen", 0), now); d.Node != "n" {
		t.Fatal(d.Explain())
	}
	s.bound("never seen", now)
	if d := s.decide(pending("p", 0), now.Add(assumedLimit-1)); d.Node != "" {
		t.Error("an assumed pod did not count")
	}
	if d := s.decide(pending("p", 0), now.Add(assumedLimit)); d.Node != "n" {
		t.Errorf("an assumption was kept for ever: %s", d.Explain())
	}
	s.setPod(pending("p", 0)) // seen without a node name of its own is still one pod
	s.removePod("p")
	s.setNode("n", nil)
	s.removePod("never seen")
	for name := range s.nodes {
		if name != "" {
			t.Errorf("node %q is kept though nothing is left of it", name)
		}
	}
}
