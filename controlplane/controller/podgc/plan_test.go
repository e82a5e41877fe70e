package podgc

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func pod(name, node string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.PodSpec{NodeName: node}}
	for _, f := range changes {
		f(p)
	}
	return p
}

func deleted(p *corev1.Pod)  { p.DeletionTimestamp = &metav1.Time{Time: now} }
func finished(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }

func doomed(p Plan) string {
	var out []string
	for _, d := range p.Delete {
		out = append(out, fmt.Sprintf("%s(orphan %v)", d.Pod.Name, d.Orphan))
	}
	return strings.Join(out, " ")
}

func TestOrphansWaitForTheirNode(t *testing.T) {
	in := Input{
		Pods:  []*corev1.Pod{pod("lost", "gone"), pod("lost, ending", "gone", deleted), pod("safe", "here")},
		Nodes: map[string]bool{"here": true}, Now: now,
	}
	p := MakePlan(in)
	if len(p.Delete) != 0 || p.Again != quarantine {
		t.Fatalf("at first: %+v", p)
	}
	in.Missing, in.Now = p.Missing, now.Add(quarantine/2)
	if p = MakePlan(in); len(p.Delete) != 0 || p.Again != quarantine/2 {
		t.Fatalf("half way: %+v", p)
	}
	in.Missing, in.Now = p.Missing, now.Add(quarantine)
	p = MakePlan(in)
	if got := doomed(p); got != "lost(orphan true) lost, ending(orphan true)" || fmt.Sprint(p.Suspects) != "[gone]" {
		t.Errorf("afterwards: %s, suspects %v", got, p.Suspects)
	}
	in.Nodes["gone"] = true
	if p = MakePlan(in); len(p.Delete) != 0 || len(p.Missing) != 0 {
		t.Errorf("after the node came back: %+v", p)
	}
}

func TestPodsDeletedBeforeTheyHadANode(t *testing.T) {
	held := func(p *corev1.Pod) {
		p.Finalizers, p.DeletionGracePeriodSeconds = []string{"x"}, ptr.To(int64(0))
	}
	p := MakePlan(Input{Pods: []*corev1.Pod{pod("waits", ""), pod("goes", "", deleted), pod("held", "", deleted, held)}, Now: now})
	if got := doomed(p); got != "goes(orphan false)" {
		t.Errorf("deletes %s", got)
	}
}

func TestTooManyFinished(t *testing.T) {
	in := Input{Nodes: map[string]bool{"n": true}, Now: now}
	for i := range Threshold + 2 {
		in.Pods = append(in.Pods, pod(fmt.Sprintf("p%05d", i), "n", finished, func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.NewTime(now.Add(-time.Duration(i) * time.Second))
		}))
	}
	if got, want := doomed(MakePlan(in)), fmt.Sprintf("p%05d(orphan false) p%05d(orphan false)", Threshold, Threshold+1); got != want {
		t.Errorf("deletes %s, want the oldest: %s", got, want)
	}
}
