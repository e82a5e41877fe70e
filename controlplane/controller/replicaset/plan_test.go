package replicaset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newSet(n int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": "web"}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "set", Generation: 3},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
	}
}

type podChange func(*corev1.Pod)

// running is a pod that has been ready for an hour.
func running(name string, changes ...podChange) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", UID: types.UID(name), Labels: map[string]string{"app": "web"},
			CreationTimestamp: metav1.NewTime(now.Add(-2 * time.Hour)), Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", UID: "set", Controller: new(bool)}},
		},
		Spec: corev1.PodSpec{NodeName: name},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour)),
		}}},
	}
	*p.OwnerReferences[0].Controller = true
	for _, c := range changes {
		c(p)
	}
	return p
}

func phase(ph corev1.PodPhase) podChange { return func(p *corev1.Pod) { p.Status.Phase = ph } }
func deleted(p *corev1.Pod)              { p.DeletionTimestamp = &metav1.Time{Time: now} }
func unready(p *corev1.Pod)              { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func node(n string) podChange            { return func(p *corev1.Pod) { p.Spec.NodeName = n } }
func cost(c string) podChange {
	return func(p *corev1.Pod) { p.Annotations[corev1.PodDeletionCost] = c }
}
func readyFor(d time.Duration) podChange {
	return func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-d)) }
}
func restarted(n int32) podChange {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: n}} }
}

func TestCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		want   int32
		pods   []*corev1.Pod
		create int
		delete int
	}{
		"nothing there":                {3, nil, 3, 0},
		"right":                        {1, []*corev1.Pod{running("a")}, 0, 0},
		"one that ends is replaced":    {1, []*corev1.Pod{running("a", deleted)}, 1, 0},
		"one that failed is replaced":  {1, []*corev1.Pod{running("a", phase(corev1.PodFailed))}, 1, 0},
		"one that finished too":        {1, []*corev1.Pod{running("a", phase(corev1.PodSucceeded))}, 1, 0},
		"too many":                     {1, []*corev1.Pod{running("a"), running("b"), running("c", deleted)}, 0, 1},
		"a crowd is made step by step": {2000, nil, burst, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := MakePlan(Input{Set: newSet(tc.want), Pods: tc.pods, Now: now})
			if p.Create != tc.create || len(p.Delete) != tc.delete {
				t.Errorf("creates %d and deletes %d, want %d and %d", p.Create, len(p.Delete), tc.create, tc.delete)
			}
		})
	}
	set := newSet(3)
	set.DeletionTimestamp = &metav1.Time{Time: now}
	if p := MakePlan(Input{Set: set, Now: now}); !p.Empty() {
		t.Errorf("a set that is being deleted plans %+v", p)
	}
}

// Each case has a pod that goes first and one that stays.
func TestWhoGoesFirst(t *testing.T) {
	for name, tc := range map[string]struct {
		goes, stays *corev1.Pod
		crowd       map[string]int
	}{
		"without a node":              {running("z", node("")), running("a", unready, phase(corev1.PodPending)), nil},
		"pending":                     {running("z", phase(corev1.PodPending)), running("a", unready), nil},
		"not ready":                   {running("z", unready), running("a", cost("-100")), nil},
		"cheap":                       {running("z", cost("-1")), running("a"), nil},
		"cheap, not by a broken cost": {running("z", cost("-1")), running("a", cost("nothing")), nil},
		"on a node with siblings":     {running("z", node("full")), running("a", node("lone")), map[string]int{"full": 2, "lone": 1}},
		"ready for a shorter time":    {running("z", readyFor(time.Minute)), running("a"), nil},
		"restarted more often":        {running("z", restarted(5)), running("a", restarted(1)), nil},
		"made later": {
			running("z", func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-time.Minute)) }), running("a"), nil,
		},
		"any of the same age, by uid": {running("a"), running("z", readyFor(time.Hour+time.Minute)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pods := range [][]*corev1.Pod{{tc.goes, tc.stays}, {tc.stays, tc.goes}} {
				p := MakePlan(Input{Set: newSet(1), Pods: pods, Crowd: tc.crowd, Now: now})
				if len(p.Delete) != 1 || p.Delete[0] != tc.goes {
					t.Errorf("deletes %v", p.Delete)
				}
			}
		})
	}
}

func TestStatus(t *testing.T) {
	set := newSet(4)
	set.Spec.MinReadySeconds = 30
	set.Spec.Template.Labels = map[string]string{"app": "web", "v": "2"}
	pods := []*corev1.Pod{
		running("a", func(p *corev1.Pod) { p.Labels["v"] = "2" }), running("b", readyFor(10*time.Second)), running("c", unready),
		running("d", deleted), running("e", phase(corev1.PodFailed)),
	}
	status, wakeAt := Status(Input{Set: set, Pods: pods, Now: now}, Outcome{})
	two := int32(1)
	want := appsv1.ReplicaSetStatus{
		Replicas: 3, FullyLabeledReplicas: 1, ReadyReplicas: 2, AvailableReplicas: 1, TerminatingReplicas: &two, ObservedGeneration: 3,
	}
	if diff := cmp.Diff(want, status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if want := now.Add(20 * time.Second); !wakeAt.Equal(want) {
		t.Errorf("looks again at %v, want %v", wakeAt, want)
	}
}

func TestFailureCondition(t *testing.T) {
	set := newSet(1)
	in := Input{Set: set, Now: now}
	failed, _ := Status(in, Outcome{Err: errors.New("quota")})
	if len(failed.Conditions) != 1 || failed.Conditions[0].Reason != "FailedCreate" || failed.Conditions[0].Message != "quota" {
		t.Fatalf("conditions %+v", failed.Conditions)
	}
	set.Status = failed
	in.Now = now.Add(time.Hour)
	again, _ := Status(in, Outcome{Err: errors.New("quota")})
	if !again.Conditions[0].LastTransitionTime.Equal(&failed.Conditions[0].LastTransitionTime) {
		t.Error("the same failure changes the transition time")
	}
	if skipped, _ := Status(in, Outcome{Skipped: true}); len(skipped.Conditions) != 1 {
		t.Error("a round without a plan forgets the failure")
	}
	if deleting, _ := Status(in, Outcome{Err: errors.New("no"), Deleting: true}); deleting.Conditions[0].Reason != "FailedDelete" {
		t.Errorf("condition %+v", deleting.Conditions[0])
	}
	if well, _ := Status(in, Outcome{}); len(well.Conditions) != 0 {
		t.Error("the failure stays after all went well")
	}
}

// A model carries plans out while pods end, fail and come up: there are never more active pods than asked for and
// there were, the plan after the last is empty, and the order of pods changes nothing.
func TestPlanProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := newSet(rapid.Int32Range(0, 8).Draw(t, "replicas"))
		var pods []*corev1.Pod
		made := 0
		add := func() {
			made++
			pods = append(pods, running(fmt.Sprint("p", made), phase(corev1.PodPending), node("")))
		}
		for range rapid.IntRange(0, 12).Draw(t, "at first") {
			add()
		}
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			if len(pods) > 0 {
				p := rapid.SampledFrom(pods).Draw(t, "pod")
				rapid.SampledFrom([]podChange{
					phase(corev1.PodFailed), phase(corev1.PodRunning), unready, node("n"), cost("5"), deleted, restarted(3),
				}).Draw(t, "change")(p)
			}
			in := Input{Set: set, Pods: pods, Now: now}
			plan := MakePlan(in)
			shuffled := slices.Clone(pods)
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			if diff := cmp.Diff(plan, MakePlan(Input{Set: set, Pods: shuffled, Now: now})); diff != "" {
				t.Fatalf("another order gives another plan:\n%s", diff)
			}
			for range plan.Create {
				add()
			}
			for _, p := range plan.Delete {
				pods = slices.DeleteFunc(pods, func(q *corev1.Pod) bool { return q.UID == p.UID })
			}
			in.Pods = pods
			if again := MakePlan(in); !again.Empty() {
				t.Fatalf("plans %+v after %+v was carried out", again, plan)
			}
			status, _ := Status(in, Outcome{})
			if status.Replicas != *set.Spec.Replicas {
				t.Fatalf("%d active pods of %d", status.Replicas, *set.Spec.Replicas)
			}
		}
	})
}
