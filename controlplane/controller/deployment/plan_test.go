package deployment

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got), -update rewrites it:\n%s", path, diff)
	}
}

// trace settles the world and tells of every plan with steps, and of the conditions at the end.
func trace(t *testing.T, w *world) string {
	t.Helper()
	var out strings.Builder
	from := len(w.log)
	if !w.settle() {
		t.Fatalf("does not settle:\n%s", strings.Join(w.log, "\n"))
	}
	for _, line := range w.log[from:] {
		fmt.Fprintln(&out, line)
	}
	for _, c := range w.d.Status.Conditions {
		fmt.Fprintf(&out, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	return out.String()
}

func TestRolloutTrace(t *testing.T) {
	w := newWorld(newDeployment(4, "app:1"))
	out := "# create\n" + trace(t, w)
	w.setImage("app:2")
	out += "# new image\n" + trace(t, w)
	w.setImage("app:1")
	out += "# back to the first image\n" + trace(t, w)
	w.d.Spec.Replicas = ptr.To(int32(8))
	out += "# scale to 8\n" + trace(t, w)
	w.d.Spec.Replicas = ptr.To(int32(0))
	out += "# scale to 0\n" + trace(t, w)
	golden(t, "rollout.txt", out)
}

func TestRecreateTrace(t *testing.T) {
	d := newDeployment(3, "app:1")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	w := newWorld(d)
	out := "# create\n" + trace(t, w)
	w.setImage("app:2")
	out += "# new image\n" + trace(t, w)
	golden(t, "recreate.txt", out)
}

func TestRecreateWaitsForTheLastOldPod(t *testing.T) {
	d := newDeployment(2, "app:1")
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	w := newWorld(d)
	w.settle()
	old := w.names()[0]
	w.setImage("app:2")
	w.plan()
	w.fitPods(old)
	if p := MakePlan(w.input()); len(p.Steps) != 0 {
		t.Fatalf("planned %v while two old pods are ending", p.Steps)
	}
	w.end(old)
	if p := MakePlan(w.input()); len(p.Steps) != 1 || p.Steps[0].Create == nil || size(p.Steps[0].Create) != 2 {
		t.Fatalf("planned %v after the last old pod had ended, want the new set with 2", p.Steps)
	}
}

func TestHistoryAndRollback(t *testing.T) {
	w := newWorld(newDeployment(1, "app:1"))
	w.d.Annotations = map[string]string{"kubernetes.io/change-cause": "first", corev1.LastAppliedConfigAnnotation: "{}"}
	w.settle()
	first := w.names()[0]
	if got := w.sets[first].Annotations; got["kubernetes.io/change-cause"] != "first" || got[corev1.LastAppliedConfigAnnotation] != "" {
		t.Errorf("annotations of the first set: %v", got)
	}
	w.setImage("app:2")
	w.settle()
	w.setImage("app:1")
	w.settle()
	if got := w.d.Annotations[RevisionAnnotation]; got != "3" {
		t.Errorf("revision after going back is %q, want 3", got)
	}
	got := w.sets[first].Annotations
	if got[RevisionAnnotation] != "3" || got[RevisionHistoryAnnotation] != "1" {
		t.Errorf("the first set has revision %q and history %q, want 3 and 1", got[RevisionAnnotation], got[RevisionHistoryAnnotation])
	}
	if len(w.sets) != 2 {
		t.Errorf("%d sets, want the two templates' only", len(w.sets))
	}
}

func TestHistoryLimit(t *testing.T) {
	w := newWorld(newDeployment(2, "app:0"))
	w.d.Spec.RevisionHistoryLimit = ptr.To(int32(2))
	for i := range 6 {
		w.setImage(fmt.Sprintf("app:%d", i))
		if !w.settle() {
			t.Fatal("does not settle")
		}
	}
	revisions := map[string]bool{}
	for _, s := range w.sets {
		revisions[s.Annotations[RevisionAnnotation]] = true
	}
	if diff := cmp.Diff(map[string]bool{"4": true, "5": true, "6": true}, revisions); diff != "" {
		t.Errorf("revisions kept (-want +got):\n%s", diff)
	}
}

func TestPaused(t *testing.T) {
	w := newWorld(newDeployment(2, "app:1"))
	w.settle()
	w.d.Spec.Paused = true
	w.setImage("app:2")
	w.d.Spec.Replicas = ptr.To(int32(5))
	w.settle()
	if len(w.sets) != 1 || size(w.sets[w.names()[0]]) != 5 {
		t.Errorf("a paused deployment scales and does not roll; sets: %v", w.names())
	}
	if c := condition(w.d.Status.Conditions, appsv1.DeploymentProgressing); c == nil || c.Reason != reasonPaused || c.Status != corev1.ConditionUnknown {
		t.Errorf("Progressing is %+v, want Unknown %s", c, reasonPaused)
	}
	w.d.Spec.Paused = false
	w.plan()
	if len(w.sets) != 2 {
		t.Error("no new set after resuming")
	}
	w.settle()
	if c := condition(w.d.Status.Conditions, appsv1.DeploymentProgressing); c == nil || c.Reason != reasonComplete {
		t.Errorf("Progressing is %+v, want %s", c, reasonComplete)
	}
}

func TestProgressDeadline(t *testing.T) {
	w := newWorld(newDeployment(1, "app:broken"))
	w.plan()
	w.fitPods(w.names()[0])
	p := w.plan()
	if want := start.Add(600 * time.Second); !p.WakeAt.Equal(want) {
		t.Fatalf("looks again at %v, want the deadline %v", p.WakeAt, want)
	}
	w.now = p.WakeAt
	p = w.plan()
	c := condition(p.Status.Conditions, appsv1.DeploymentProgressing)
	if c == nil || c.Status != corev1.ConditionFalse || c.Reason != reasonTimedOut || !strings.Contains(c.Message, "has timed out progressing") {
		t.Fatalf("Progressing is %+v", c)
	}
	if p = w.plan(); !p.WakeAt.IsZero() {
		t.Errorf("looks again at %v though nothing changes by time", p.WakeAt)
	}
	w.becomeAvailable(w.names()[0], 1)
	w.settle()
	if c := condition(w.d.Status.Conditions, appsv1.DeploymentProgressing); c.Status != corev1.ConditionTrue || c.Reason != reasonComplete {
		t.Errorf("Progressing after the pod came up is %+v", c)
	}
}

func TestReplicaFailureIsRepeated(t *testing.T) {
	w := newWorld(newDeployment(1, "app:1"))
	w.plan()
	s := w.sets[w.names()[0]]
	s.Status.Conditions = []appsv1.ReplicaSetCondition{{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "quota",
	}}
	w.plan()
	if c := condition(w.d.Status.Conditions, appsv1.DeploymentReplicaFailure); c == nil || c.Reason != "FailedCreate" || c.Message != "quota" {
		t.Errorf("ReplicaFailure is %+v", c)
	}
	s = w.sets[w.names()[0]]
	s.Status.Conditions = nil
	w.plan()
	if c := condition(w.d.Status.Conditions, appsv1.DeploymentReplicaFailure); c != nil {
		t.Errorf("ReplicaFailure stays: %+v", c)
	}
}

func TestProportionalScaling(t *testing.T) {
	d := newDeployment(10, "app:1")
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{
		MaxSurge: ptr.To(intstr.FromInt32(3)), MaxUnavailable: ptr.To(intstr.FromInt32(2)),
	}
	w := newWorld(d)
	w.settle()
	old := w.names()[0]
	w.setImage("app:broken")
	for range 20 { // the new pods never become available: the rollout stands at 8 old, 5 new
		w.plan()
		for _, n := range w.names() {
			w.fitPods(n)
		}
	}
	if size(w.sets[old]) != 8 || total(w.input().Sets) != 13 {
		t.Fatalf("rollout stands at %d old of %d", size(w.sets[old]), total(w.input().Sets))
	}
	w.d.Spec.Replicas = ptr.To(int32(15))
	w.plan()
	if o, all := size(w.sets[old]), total(w.input().Sets); o != 11 || all != 18 {
		t.Errorf("scaled to %d old of %d, want 11 of 18", o, all)
	}
	for name, s := range w.sets {
		if s.Annotations[DesiredReplicasAnnotation] != "15" || s.Annotations[MaxReplicasAnnotation] != "18" {
			t.Errorf("%s is annotated %v", name, s.Annotations)
		}
	}
}

func TestBounds(t *testing.T) {
	pct, num := intstr.FromString, intstr.FromInt32
	for _, tc := range []struct {
		n                  int32
		surge, unavailable intstr.IntOrString
		wantS, wantU       int32
	}{
		{10, pct("25%"), pct("25%"), 3, 2},
		{1, pct("25%"), pct("25%"), 1, 0},
		{3, num(0), num(1), 0, 1},
		{3, num(0), pct("10%"), 0, 1}, // rounds to nothing: one must be able to move
		{2, num(5), num(9), 5, 2},
		{0, pct("25%"), pct("25%"), 0, 0},
	} {
		d := newDeployment(tc.n, "a")
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &tc.surge, MaxUnavailable: &tc.unavailable}
		if got := boundsOf(d); got != (bounds{tc.wantS, tc.wantU}) {
			t.Errorf("%d replicas, surge %s, unavailable %s: got %+v", tc.n, tc.surge.String(), tc.unavailable.String(), got)
		}
	}
}

// The hash is in names of objects that exist: changing it makes every deployment roll out anew.
func TestHashStaysTheSame(t *testing.T) {
	d := newDeployment(1, "app:1")
	if got := Hash(&d.Spec.Template, nil); got != "74b4f5f8d9" {
		t.Errorf("hash is %s", got)
	}
	if Hash(&d.Spec.Template, ptr.To(int32(1))) == Hash(&d.Spec.Template, nil) {
		t.Error("a collision gives the same hash again")
	}
}

func TestCreateFailed(t *testing.T) {
	s := CreateFailed(appsv1.DeploymentStatus{}, "web-x", errors.New("no"), start)
	if c := condition(s.Conditions, appsv1.DeploymentProgressing); c == nil || c.Reason != reasonCreateError || c.Status != corev1.ConditionFalse {
		t.Errorf("condition is %+v", c)
	}
}

func TestDeletedIsLeftAlone(t *testing.T) {
	w := newWorld(newDeployment(3, "app:1"))
	w.d.DeletionTimestamp = &metav1.Time{Time: start}
	if p := MakePlan(w.input()); len(p.Steps) != 0 {
		t.Errorf("planned %v for a deployment that is being deleted", p.Steps)
	}
}

func drawDeployment(t *rapid.T) *appsv1.Deployment {
	d := newDeployment(rapid.Int32Range(0, 12).Draw(t, "replicas"), "app:0")
	draw := func(name string) *intstr.IntOrString {
		v := intstr.FromInt32(rapid.Int32Range(0, 5).Draw(t, name))
		if rapid.Bool().Draw(t, name+" in percent") {
			v = intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(0, 100).Draw(t, name+" percent")))
		}
		return &v
	}
	d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: draw("surge"), MaxUnavailable: draw("unavailable")}
	return d
}

// Whatever happens in between, in whatever order, while replicas and bounds stay the same: never more pods than
// replicas+maxSurge; never fewer available than replicas-maxUnavailable by the controller's doing; and in the end
// everything is of the last template, and nothing more is planned.
func TestRolloutProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(drawDeployment(t))
		if !w.settle() {
			t.Fatal("the first rollout does not settle")
		}
		n, b, crashed := replicas(w.d), boundsOf(w.d), false
		for i := range rapid.IntRange(1, 40).Draw(t, "events") {
			name := rapid.SampledFrom(w.names()).Draw(t, "set")
			switch rapid.SampledFrom([]string{"plan", "plan", "fit", "fit", "ready", "ready", "end", "image", "crash"}).Draw(t, "event") {
			case "plan":
				before := w.kept()
				w.plan()
				if now := w.kept(); now < before && now < n-b.unavailable {
					t.Fatalf("event %d: a plan takes available pods from %d to %d, least is %d-%d\n%s", i, before, now, n, b.unavailable, strings.Join(w.log, "\n"))
				}
			case "fit":
				w.fitPods(name)
			case "ready":
				w.becomeAvailable(name, 1)
			case "end":
				w.end(name)
			case "image":
				w.setImage(fmt.Sprintf("app:%d", rapid.IntRange(0, 3).Draw(t, "image")))
			case "crash":
				if p := w.pods[name]; p.available > 0 {
					p.available--
					crashed = true
				}
				w.report(name)
			}
			w.now = w.now.Add(time.Second)
			if w.exist() > n+b.surge {
				t.Fatalf("event %d: %d pods of %d+%d\n%s", i, w.exist(), n, b.surge, strings.Join(w.log, "\n"))
			}
			if !crashed && w.available() < n-b.unavailable {
				t.Fatalf("event %d: %d pods available of %d-%d\n%s", i, w.available(), n, b.unavailable, strings.Join(w.log, "\n"))
			}
		}
		if !w.settle() {
			t.Fatalf("does not settle:\n%s", strings.Join(w.log, "\n"))
		}
		fresh := findNew(w.d, slices.SortedFunc(slices.Values(w.input().Sets), byAge))
		if fresh == nil || w.pods[fresh.Name].available != n || w.exist() != n {
			for _, name := range w.names() {
				s := w.sets[name]
				t.Logf("%s: %d replicas, generation %d, pods %+v, status %+v", name, size(s), s.Generation, *w.pods[name], s.Status)
			}
			t.Fatalf("ends with %d pods, not with %d of the last template\n%s", w.exist(), n, strings.Join(w.log, "\n"))
		}
		if !complete(w.d, w.d.Status) {
			t.Fatalf("ends without being complete: %+v", w.d.Status)
		}
	})
}

// Scaling in the middle of rollouts, pausing and resuming too, ends well.
func TestScalingConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(drawDeployment(t))
		for range rapid.IntRange(1, 30).Draw(t, "events") {
			switch rapid.SampledFrom([]string{"plan", "fit", "ready", "image", "scale", "pause", "strategy"}).Draw(t, "event") {
			case "plan":
				w.plan()
			case "fit":
				for _, n := range w.names() {
					w.fitPods(n)
				}
			case "ready":
				for _, n := range w.names() {
					w.becomeAvailable(n, 2)
				}
			case "image":
				w.setImage(fmt.Sprintf("app:%d", rapid.IntRange(0, 3).Draw(t, "image")))
			case "scale":
				w.d = w.d.DeepCopy()
				w.d.Generation++
				w.d.Spec.Replicas = ptr.To(rapid.Int32Range(0, 12).Draw(t, "to"))
			case "pause":
				w.d = w.d.DeepCopy()
				w.d.Spec.Paused = !w.d.Spec.Paused
			case "strategy":
				w.d = w.d.DeepCopy()
				w.d.Spec.Strategy.Type = rapid.SampledFrom([]appsv1.DeploymentStrategyType{
					appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType,
				}).Draw(t, "type")
			}
		}
		w.d.Spec.Paused = false
		if !w.settle() {
			t.Fatalf("does not settle:\n%s", strings.Join(w.log, "\n"))
		}
		if w.exist() != replicas(w.d) || !complete(w.d, w.d.Status) {
			t.Fatalf("ends with %d pods of %d, status %+v\n%s", w.exist(), replicas(w.d), w.d.Status, strings.Join(w.log, "\n"))
		}
	})
}

func TestOrderOfInputIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(drawDeployment(t))
		for i := range rapid.IntRange(1, 4).Draw(t, "rollouts") {
			w.setImage(fmt.Sprintf("app:%d", i))
			for range rapid.IntRange(0, 4).Draw(t, "rounds") {
				w.plan()
				for _, n := range w.names() {
					w.fitPods(n)
					w.becomeAvailable(n, 1)
				}
			}
		}
		in := w.input()
		want := MakePlan(in)
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 1)).Shuffle(len(in.Sets), func(i, j int) { in.Sets[i], in.Sets[j] = in.Sets[j], in.Sets[i] })
		if diff := cmp.Diff(want, MakePlan(in)); diff != "" {
			t.Fatalf("another order gives another plan:\n%s", diff)
		}
	})
}
