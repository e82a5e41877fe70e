package replicaset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/loop"
)

// pass lets the bubble's time pass, which takes none.
func pass(d time.Duration) { <-time.After(d) }

// run runs the controller against an API in memory that gives pods names and uids.
func run(t *testing.T, test func(c *fake.Clientset, events *record.FakeRecorder)) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var made atomic.Int64
		client.PrependReactor("create", "pods", func(a k8stesting.Action) (bool, runtime.Object, error) {
			p := a.(k8stesting.CreateAction).GetObject().(*corev1.Pod)
			n := made.Add(1)
			p.Name, p.UID = fmt.Sprintf("%s%d", p.GenerateName, n), types.UID(fmt.Sprint("pod-", n))
			return false, nil, nil
		})
		factory := informers.NewSharedInformerFactory(client, 0)
		events := record.NewFakeRecorder(1000)
		c, err := New(loop.Env{
			Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Recorder: func(string) record.EventRecorder { return events },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		factory.Start(ctx.Done())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		pass(time.Second)
		test(client, events)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		factory.Shutdown()
	})
}

func pods(t *testing.T, c *fake.Clientset) []corev1.Pod {
	t.Helper()
	pass(time.Second)
	list, err := c.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func apply(t *testing.T, c *fake.Clientset, set *appsv1.ReplicaSet) {
	t.Helper()
	_, err := c.AppsV1().ReplicaSets("default").Update(t.Context(), set, metav1.UpdateOptions{})
	if err != nil {
		_, err = c.AppsV1().ReplicaSets("default").Create(t.Context(), set, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestMakesAndTakesPods(t *testing.T) {
	run(t, func(c *fake.Clientset, events *record.FakeRecorder) {
		apply(t, c, newSet(20))
		list := pods(t, c)
		if len(list) != 20 {
			t.Fatalf("%d pods, want 20", len(list))
		}
		if !metav1.IsControlledBy(&list[0], newSet(0)) || list[0].Labels["app"] != "web" {
			t.Errorf("pod %+v", list[0].ObjectMeta)
		}
		if e := <-events.Events; !strings.HasPrefix(e, "Normal SuccessfulCreate Created pod: web-") {
			t.Errorf("event %q", e)
		}
		set, err := c.AppsV1().ReplicaSets("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil || set.Status.Replicas != 20 {
			t.Errorf("status %+v, %v", set.Status, err)
		}
		apply(t, c, newSet(7))
		if n := len(pods(t, c)); n != 7 {
			t.Errorf("%d pods after scaling down, want 7", n)
		}
	})
}

func TestAdoptsAndReleases(t *testing.T) {
	run(t, func(c *fake.Clientset, _ *record.FakeRecorder) {
		orphan := running("orphan", func(p *corev1.Pod) { p.OwnerReferences = nil })
		if _, err := c.CoreV1().Pods("default").Create(t.Context(), orphan, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		apply(t, c, newSet(1))
		list := pods(t, c)
		if len(list) != 1 || !metav1.IsControlledBy(&list[0], newSet(0)) {
			t.Fatalf("the orphan was not adopted: %d pods, owners %v", len(list), list[0].OwnerReferences)
		}
		p := list[0].DeepCopy()
		p.Labels = map[string]string{"app": "debug"}
		if _, err := c.CoreV1().Pods("default").Update(t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		held := 0
		for _, q := range pods(t, c) {
			if metav1.GetControllerOf(&q) != nil {
				held++
			}
			if q.Name == p.Name && len(q.OwnerReferences) > 0 {
				t.Errorf("the relabelled pod is still owned: %v", q.OwnerReferences)
			}
		}
		if held != 1 {
			t.Errorf("%d pods are held, want a new one in place of that released", held)
		}
	})
}

// Where pods are refused, few are tried, the condition says why, and all come once they are accepted.
func TestRefusedPods(t *testing.T) {
	run(t, func(c *fake.Clientset, events *record.FakeRecorder) {
		var refuse atomic.Bool
		var tried atomic.Int64
		refuse.Store(true)
		c.PrependReactor("create", "pods", func(k8stesting.Action) (bool, runtime.Object, error) {
			if !refuse.Load() {
				return false, nil, nil
			}
			tried.Add(1)
			return true, nil, errors.New("exceeded quota")
		})
		apply(t, c, newSet(50))
		if n := len(pods(t, c)); n != 0 || tried.Load() > 20 {
			t.Errorf("%d pods, %d tried in a second", n, tried.Load())
		}
		if e := <-events.Events; !strings.Contains(e, "FailedCreate Error creating: exceeded quota") {
			t.Errorf("event %q", e)
		}
		set, err := c.AppsV1().ReplicaSets("default").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil || len(set.Status.Conditions) != 1 || set.Status.Conditions[0].Type != appsv1.ReplicaSetReplicaFailure {
			t.Errorf("conditions %+v, %v", set.Status.Conditions, err)
		}
		refuse.Store(false)
		pass(5 * time.Minute)
		if n := len(pods(t, c)); n != 50 {
			t.Errorf("%d pods after the quota was raised", n)
		}
	})
}
