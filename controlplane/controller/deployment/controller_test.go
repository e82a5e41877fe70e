package deployment

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/loop"
)

// run runs the controller over these objects for a minute of the bubble's time.
func run(t *testing.T, objects []runtime.Object, test func(c *fake.Clientset, events *record.FakeRecorder)) {
	synctest.Test(t, func(t *testing.T) {
		c := fake.NewClientset(objects...)
		made := 0
		c.PrependReactor("create", "replicasets", func(a k8stesting.Action) (bool, runtime.Object, error) {
			made++
			a.(k8stesting.CreateAction).GetObject().(*appsv1.ReplicaSet).UID = types.UID(fmt.Sprint("set-", made))
			return false, nil, nil
		})
		factory := informers.NewSharedInformerFactory(c, 0)
		events := record.NewFakeRecorder(100)
		controller, err := New(loop.Env{
			Client: c, Informers: factory, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Recorder: func(string) record.EventRecorder { return events },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		factory.Start(ctx.Done())
		done := make(chan error, 1)
		go func() { done <- controller.Run(ctx) }()
		<-time.After(time.Minute)
		test(c, events)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		factory.Shutdown()
	})
}

func get(t *testing.T, c *fake.Clientset) (*appsv1.Deployment, []appsv1.ReplicaSet) {
	t.Helper()
	d, err := c.AppsV1().Deployments("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sets, err := c.AppsV1().ReplicaSets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d, sets.Items
}

func TestMakesASet(t *testing.T) {
	run(t, []runtime.Object{newDeployment(2, "app:1")}, func(c *fake.Clientset, events *record.FakeRecorder) {
		d, sets := get(t, c)
		if len(sets) != 1 || *sets[0].Spec.Replicas != 2 || !metav1.IsControlledBy(&sets[0], d) {
			t.Fatalf("sets %+v", sets)
		}
		if d.Annotations[RevisionAnnotation] != "1" || d.Status.ObservedGeneration != 1 {
			t.Errorf("annotations %v, status %+v", d.Annotations, d.Status)
		}
		want := "Normal ScalingReplicaSet Scaled up replica set " + sets[0].Name + " from 0 to 2"
		if e := <-events.Events; e != want {
			t.Errorf("event %q, want %q", e, want)
		}
		if len(events.Events) != 0 {
			t.Errorf("more events: %q", <-events.Events)
		}
	})
}

func TestAdoptsAnOrphan(t *testing.T) {
	d := newDeployment(3, "app:1")
	orphan := MakePlan(Input{Deployment: d, Now: start}).Steps[0].Create
	orphan.OwnerReferences, orphan.UID = nil, "orphan"
	run(t, []runtime.Object{d, orphan}, func(c *fake.Clientset, _ *record.FakeRecorder) {
		d, sets := get(t, c)
		if len(sets) != 1 || !metav1.IsControlledBy(&sets[0], d) {
			t.Errorf("sets %+v", sets)
		}
	})
}

// A foreign set has the name that the hash gives: the count of collisions makes another.
func TestCollision(t *testing.T) {
	d := newDeployment(3, "app:1")
	foreign := MakePlan(Input{Deployment: d, Now: start}).Steps[0].Create
	foreign.OwnerReferences[0].UID, foreign.OwnerReferences[0].Name = "somebody", "else"
	run(t, []runtime.Object{d, foreign}, func(c *fake.Clientset, _ *record.FakeRecorder) {
		d, sets := get(t, c)
		held := 0
		for i := range sets {
			if metav1.IsControlledBy(&sets[i], d) {
				held++
			}
		}
		if len(sets) != 2 || held != 1 || d.Status.CollisionCount == nil || *d.Status.CollisionCount != 1 {
			t.Errorf("%d sets, %d held, status %+v", len(sets), held, d.Status)
		}
	})
}

func TestTellsWhyNoSetCanBeMade(t *testing.T) {
	refuse := func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(appsv1.Resource("replicasets"), "", fmt.Errorf("exceeded quota"))
	}
	d := newDeployment(1, "app:1")
	run(t, nil, func(c *fake.Clientset, events *record.FakeRecorder) {
		c.PrependReactor("create", "replicasets", refuse)
		if _, err := c.AppsV1().Deployments("default").Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		got, _ := get(t, c)
		cond := condition(got.Status.Conditions, appsv1.DeploymentProgressing)
		if cond == nil || cond.Reason != reasonCreateError || cond.Status != "False" {
			t.Errorf("Progressing is %+v", cond)
		}
	})
}
