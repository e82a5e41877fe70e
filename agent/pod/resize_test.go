package pod

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// resources writes "cpu/memory" pairs for requests and limits; "-" is none.
func resources(requests, limits string) v1.ResourceRequirements {
	list := func(s string) v1.ResourceList {
		out := v1.ResourceList{}
		for i, part := range strings.Split(s, "/") {
			if part != "-" && part != "" {
				out[computeResources[i]] = resource.MustParse(part)
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	}
	return v1.ResourceRequirements{Requests: list(requests), Limits: list(limits)}
}

func withSize(name, requests, limits string) v1.Container {
	c := container(name)
	c.Resources = resources(requests, limits)
	return c
}

func roomOf(cpu, memory, takenCPU, takenMemory string) *Room {
	return &Room{Allocatable: resources(cpu+"/"+memory, "").Requests, Taken: resources(takenCPU+"/"+takenMemory, "").Requests}
}

// ask changes what the spec asks for, as the resize subresource does.
func (w *world) ask(name, requests, limits string) {
	w.say("(user asks for %s and at most %s for %s)", requests, limits, name)
	w.pod = w.pod.DeepCopy()
	w.pod.Generation++
	c, _, _ := FindContainer(w.pod, name)
	c.Resources = resources(requests, limits)
}

func TestJudgeResize(t *testing.T) {
	static := func(p *v1.Pod) { p.Annotations = map[string]string{SourceAnnotation: "file"} }
	restart := func(p *v1.Pod) {
		p.Spec.Containers[0].ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer}}
	}
	swap := roomOf("4", "8Gi", "1", "1Gi")
	swap.Swap = true
	for name, test := range map[string]struct {
		change          func(*v1.Pod)
		requests        string
		room            *Room
		reason, message string
	}{
		"fits":            {nil, "3/7Gi", roomOf("4", "8Gi", "1", "1Gi"), "", ""},
		"no room now":     {nil, "3500m/1Gi", roomOf("4", "8Gi", "1", "1Gi"), v1.PodReasonDeferred, "Node didn't have enough resource: cpu, requested: 3500, used: 1000, capacity: 4000"},
		"no memory now":   {nil, "1/7.5Gi", roomOf("4", "8Gi", "1", "1Gi"), v1.PodReasonDeferred, "Node didn't have enough resource: memory, requested: 8053063680, used: 1073741824, capacity: 8589934592"},
		"never":           {nil, "5/1Gi", roomOf("4", "8Gi", "1", "1Gi"), v1.PodReasonInfeasible, "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"},
		"less is granted": {nil, "500m/512Mi", roomOf("4", "8Gi", "4", "8Gi"), "", ""},
		"static":          {static, "2/1Gi", roomOf("4", "8Gi", "1", "1Gi"), v1.PodReasonInfeasible, "In-place resize of static-pods is not supported"},
		"swap":            {nil, "1/2Gi", swap, v1.PodReasonInfeasible, "In-place resize of containers with swap is not supported"},
		"swap, restarted": {restart, "1/2Gi", swap, "", ""},
		"swap, cpu alone": {nil, "2/1Gi", swap, "", ""},
		"not known":       {nil, "2/1Gi", nil, v1.PodReasonDeferred, "What the node can grant is not known yet"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(withSize("web", "1/1Gi", "8/16Gi"))
			if test.change != nil {
				test.change(p)
			}
			first := Plan(Desired{Pod: p}, Observed{}, epoch)
			p = p.DeepCopy()
			p.Spec.Containers[0].Resources = resources(test.requests, "8/16Gi")
			p.Generation++
			r := Plan(Desired{Pod: p, Room: test.room}, Observed{Facts: first.Facts}, epoch)
			var pending, progress *v1.PodCondition
			for i, c := range r.Status.Conditions {
				switch c.Type {
				case v1.PodResizePending:
					pending = &r.Status.Conditions[i]
				case v1.PodResizeInProgress:
					progress = &r.Status.Conditions[i]
				}
			}
			granted := Granted(p, r.Facts.Allocated).Spec.Containers[0].Resources
			if test.reason == "" {
				if pending != nil || progress == nil || progress.ObservedGeneration != 2 || !sameCompute(granted, p.Spec.Containers[0].Resources) {
					t.Fatalf("pending %v, in progress %v, granted %v", pending, progress, granted)
				}
				return
			}
			if pending == nil || pending.Reason != test.reason || pending.Message != test.message || pending.ObservedGeneration != 2 {
				t.Errorf("pending is %+v, want %s: %s", pending, test.reason, test.message)
			}
			if progress != nil || !sameCompute(granted, resources("1/1Gi", "8/16Gi")) {
				t.Errorf("in progress %v, granted %v", progress, granted)
			}
			if wakes := !r.WakeAt.IsZero(); wakes != (test.reason == v1.PodReasonDeferred) {
				t.Errorf("asks again: %v", wakes)
			}
		})
	}
}

// A pod that asks for neither CPU nor memory costs no memory of it, and one whose spec is as granted is not copied.
func TestGrantedSharesPod(t *testing.T) {
	plain := newPod(container("web"))
	if a := allocationOf(plain); a != nil {
		t.Errorf("allocation of a plain pod: %+v", a)
	}
	p := newPod(withSize("web", "1/1Gi", "1/1Gi"), container("other"))
	a := allocationOf(p)
	if Granted(p, a) != p || Granted(plain, nil) != plain {
		t.Error("copied without need")
	}
	other := p.DeepCopy()
	other.Spec.Containers[0].Resources.Requests[v1.ResourceCPU] = resource.MustParse("2")
	other.Spec.Containers[0].Resources.Limits["hugepages-2Mi"] = resource.MustParse("4Mi")
	before := other.DeepCopy()
	got := Granted(other, a).Spec.Containers[0].Resources
	want := resources("1/1Gi", "1/1Gi")
	want.Limits["hugepages-2Mi"] = resource.MustParse("4Mi")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, other); diff != "" {
		t.Errorf("the pod was changed:\n%s", diff)
	}
}

// What a container has is shown as its resources, what it was granted as allocated, while they differ.
func TestResizeStatus(t *testing.T) {
	w := newWorld(newPod(withSize("web", "1/1Gi", "1/1Gi")))
	w.room = roomOf("4", "8Gi", "0", "0")
	w.run(time.Minute)
	w.updateFails = "no way"
	w.ask("web", "2/1Gi", "2/1Gi")
	w.run(2 * time.Minute)
	cs := w.last.ContainerStatuses[0]
	if diff := cmp.Diff(resources("1/1Gi", "1/1Gi"), *cs.Resources); diff != "" {
		t.Errorf("resources: %s", diff)
	}
	if diff := cmp.Diff(resources("2/1Gi", "").Requests, cs.AllocatedResources); diff != "" {
		t.Errorf("allocated: %s", diff)
	}
	i := slices.IndexFunc(w.last.Conditions, func(c v1.PodCondition) bool { return c.Type == v1.PodResizeInProgress })
	if i < 0 || w.last.Conditions[i].Reason != v1.PodReasonError || w.last.Conditions[i].Message != "no way" {
		t.Errorf("conditions: %+v", w.last.Conditions)
	}
}

// TestResizeConverges: whatever is asked for in whatever order, with a killed agent in between, in the end every container has
// what the spec asks for, if the node can grant that, and nothing is left to do.
func TestResizeConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amounts := rapid.SampledFrom([]string{"500m/1Gi", "1/2Gi", "2/1Gi", "1500m/4Gi"})
		web, proxy := withSize("web", amounts.Draw(t, "web"), "4/8Gi"), withSize("proxy", "100m/64Mi", "-/-")
		proxy.RestartPolicy = sidecar("proxy").RestartPolicy
		if rapid.Bool().Draw(t, "restart") {
			web.ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceMemory, RestartPolicy: v1.RestartContainer}}
		}
		p := newPod(web, container("plain"))
		p.Spec.InitContainers = []v1.Container{proxy}
		w := newWorld(p)
		w.room = roomOf("8", "16Gi", "1", "1Gi")
		w.killAfter = rapid.IntRange(0, 20).Draw(t, "kill")
		for i := range rapid.IntRange(1, 4).Draw(t, "resizes") {
			w.run(time.Duration(i*5+rapid.IntRange(0, 4).Draw(t, "at")) * time.Second)
			w.ask(rapid.SampledFrom([]string{"web", "proxy", "plain"}).Draw(t, "name"), amounts.Draw(t, "requests"), "4/8Gi")
		}
		w.run(time.Hour)
		if len(w.broken) > 0 {
			t.Fatalf("%v\n%s", w.broken, strings.Join(w.trace, "\n"))
		}
		for _, c := range w.o.Containers {
			spec, _, _ := FindContainer(w.pod, c.Name)
			if c.State == Running && c.Resources != nil && !sameCompute(*c.Resources, spec.Resources) {
				t.Errorf("%s has %v and asks for %v\n%s", c.Name, c.Resources, spec.Resources, strings.Join(w.trace, "\n"))
			}
		}
		if f := w.o.Facts; f.Resize != nil || differs(w.pod, f.Allocated) {
			t.Errorf("not done: %+v", f.Resize)
		}
	})
}

// A resize that others leave no room for is granted when they have gone, and one that a finished pod asks for never is.
func TestResizeWaits(t *testing.T) {
	w := newWorld(newPod(withSize("web", "1/1Gi", "-/-")))
	w.room = roomOf("4", "8Gi", "2", "1Gi")
	w.run(time.Minute)
	w.ask("web", "3/1Gi", "-/-")
	w.run(2 * time.Minute)
	if w.o.Facts.Resize != nil || !AsksResize(w.pod, w.o.Facts) {
		t.Fatal("granted without room")
	}
	w.room = roomOf("4", "8Gi", "1", "1Gi")
	w.run(2*time.Minute + 2*deferredEvery)
	if AsksResize(w.pod, w.o.Facts) || w.o.Facts.Resize != nil {
		t.Errorf("not granted when there was room: %+v", w.o.Facts)
	}
	w.pod = w.pod.DeepCopy()
	w.pod.DeletionTimestamp = &metav1.Time{Time: w.now}
	w.ask("web", "1/1Gi", "-/-")
	w.run(10 * time.Minute)
	if len(w.broken) > 0 || len(w.running()) > 0 {
		t.Error(fmt.Sprint(w.broken, w.running()))
	}
}
