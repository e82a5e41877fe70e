package endpointslice

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

var created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newService(changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "svc", Labels: map[string]string{"team": "x"}, CreationTimestamp: metav1.NewTime(created)},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.7", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	for _, f := range changes {
		f(s)
	}
	return s
}

func readyPod(i int, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p", i), Namespace: "default", UID: types.UID(fmt.Sprint("u", i))},
		Spec:       corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: fmt.Sprintf("10.244.%d.%d", i/250, i%250+1)}, {IP: fmt.Sprintf("fd00::%x", i+1)}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(created.Add(time.Duration(i+1) * time.Second))}},
		},
	}
	p.Status.PodIP = p.Status.PodIPs[0].IP
	for _, f := range changes {
		f(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func going(p *corev1.Pod)   { p.DeletionTimestamp = &metav1.Time{Time: created} }

func TestOneEndpoint(t *testing.T) {
	p := MakePlan(Input{Service: newService(), Pods: []*corev1.Pod{readyPod(0)}, Zones: map[string]string{"n1": "z1"}})
	if len(p.Create) != 1 || len(p.Update)+len(p.Delete) != 0 {
		t.Fatalf("plan %+v", p)
	}
	yes := true
	want := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "web-", Namespace: "default",
			Labels: map[string]string{
				"team": "x", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
			},
			Annotations:     map[string]string{corev1.EndpointsLastChangeTriggerTime: "2026-01-02T03:04:05Z"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: "web", UID: "svc", Controller: &yes, BlockOwnerDeletion: &yes}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.244.0.1"}, NodeName: ptr.To("n1"), Zone: ptr.To("z1"),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p0", UID: "u0"},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	if diff := cmp.Diff(want, p.Create[0]); diff != "" {
		t.Errorf("slice (-want +got):\n%s", diff)
	}
}

func TestConditions(t *testing.T) {
	for name, tc := range map[string]struct {
		pod                         *corev1.Pod
		publish                     bool
		ready, serving, terminating bool
		absent                      bool
	}{
		"ready":                {pod: readyPod(0), ready: true, serving: true},
		"not ready":            {pod: readyPod(0, unready)},
		"not ready, published": {pod: readyPod(0, unready), publish: true, ready: true},
		"going":                {pod: readyPod(0, going), serving: true, terminating: true},
		"finished":             {pod: readyPod(0, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), absent: true},
		"without an address":   {pod: readyPod(0, func(p *corev1.Pod) { p.Status.PodIPs, p.Status.PodIP = nil, "" }), absent: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = tc.publish })
			got := MakePlan(Input{Service: s, Pods: []*corev1.Pod{tc.pod}}).Create[0].Endpoints
			if tc.absent {
				if len(got) != 0 {
					t.Errorf("endpoints %+v", got)
				}
				return
			}
			want := discoveryv1.EndpointConditions{Ready: &tc.ready, Serving: &tc.serving, Terminating: &tc.terminating}
			if diff := cmp.Diff(want, got[0].Conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamedPortsAndFamiliesMakeSlicesOfTheirOwn(t *testing.T) {
	named := func(port int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: port}}
		}
	}
	s := newService(func(s *corev1.Service) {
		s.Spec.Ports[0].TargetPort = intstr.FromString("web")
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	})
	p := MakePlan(Input{Service: s, Pods: []*corev1.Pod{readyPod(0, named(1)), readyPod(1, named(2)), readyPod(2)}})
	got := map[string]string{}
	for _, c := range p.Create {
		got[fmt.Sprint(c.AddressType, " ", *c.Ports[0].Port)] = c.Endpoints[0].Addresses[0]
	}
	want := map[string]string{"IPv4 1": "10.244.0.1", "IPv4 2": "10.244.0.2", "IPv6 1": "fd00::1", "IPv6 2": "fd00::2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("slices (-want +got):\n%s", diff)
	}
}

func TestHeadless(t *testing.T) {
	s := newService(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.Ports = corev1.ClusterIPNone, nil })
	pod := readyPod(0, func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "web-0", "web" })
	c := MakePlan(Input{Service: s, Pods: []*corev1.Pod{pod, readyPod(1)}}).Create
	if len(c) != 1 || len(c[0].Ports) != 0 || len(c[0].Endpoints) != 2 {
		t.Fatalf("slices %+v", c)
	}
	if _, ok := c[0].Labels[corev1.IsHeadlessService]; !ok {
		t.Errorf("labels %v", c[0].Labels)
	}
	if h := c[0].Endpoints[0].Hostname; h == nil || *h != "web-0" || c[0].Endpoints[1].Hostname != nil {
		t.Errorf("hostnames %v and %v", h, c[0].Endpoints[1].Hostname)
	}
}

// api carries plans out in memory and counts the writes.
type api struct {
	slices map[string]*discoveryv1.EndpointSlice
	made   int
}

func (a *api) list() []*discoveryv1.EndpointSlice { return slices.Collect(maps.Values(a.slices)) }

func (a *api) carryOut(p Plan) (writes int) {
	if a.slices == nil {
		a.slices = map[string]*discoveryv1.EndpointSlice{}
	}
	for _, s := range p.Create {
		a.made++
		s.Name = fmt.Sprint("web-", a.made)
		a.slices[s.Name] = s
	}
	for _, s := range p.Update {
		a.slices[s.Name] = s
	}
	for _, s := range p.Delete {
		delete(a.slices, s.Name)
	}
	return len(p.Create) + len(p.Update) + len(p.Delete)
}

func (a *api) endpoints() map[string]bool {
	out := map[string]bool{}
	for _, s := range a.slices {
		for _, e := range s.Endpoints {
			out[e.Addresses[0]] = *e.Conditions.Ready
		}
	}
	return out
}

func TestMinimalWrites(t *testing.T) {
	var a api
	var pods []*corev1.Pod
	for i := range 250 {
		pods = append(pods, readyPod(i))
	}
	step := func(what string, want int) {
		t.Helper()
		if got := a.carryOut(MakePlan(Input{Service: newService(), Pods: pods, Slices: a.list()})); got != want {
			t.Errorf("%s: %d writes, want %d", what, got, want)
		}
	}
	step("250 pods", 3)
	step("nothing", 0)
	pods = append(pods, readyPod(250))
	step("one more, in the slice with room", 1)
	unready(pods[0])
	step("one not ready", 1)
	pods = pods[1:]
	step("one gone", 1)
	pods[0], pods[9] = readyPod(300), readyPod(301) // u1 and u10, neighbours by uid
	step("two replaced within one slice", 1)
	pods = nil
	step("all gone: one stays as a sign", 3)
	step("nothing", 0)
	pods = []*corev1.Pod{readyPod(7)}
	step("one again", 2) // the sign had no ports, so it is not of this group
}

func TestForeignSlicesAndRelabelledOnes(t *testing.T) {
	var a api
	in := Input{Service: newService(), Pods: []*corev1.Pod{readyPod(0)}}
	a.carryOut(MakePlan(in))
	for _, s := range a.slices {
		delete(s.Labels, "team")
	}
	in.Slices = a.list()
	p := MakePlan(in)
	if len(p.Update) != 1 || p.Update[0].Labels["team"] != "x" {
		t.Errorf("labels are not repaired: %+v", p)
	}
}

// Pods come, go and change; after each change one plan makes the slices show exactly them, none over its size, each
// endpoint once; the next plan is empty, and the order of pods and slices does not matter.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a api
		pods := map[int]*corev1.Pod{}
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			from := rapid.IntRange(0, 300).Draw(t, "from")
			what := rapid.SampledFrom([]string{"add", "add", "remove", "unready", "go"}).Draw(t, "change")
			for i := range rapid.IntRange(1, 130).Draw(t, "count") {
				switch what {
				case "add":
					pods[from+i] = readyPod(from + i)
				case "remove":
					delete(pods, from+i)
				case "unready":
					pods[from+i] = readyPod(from+i, unready)
				case "go":
					pods[from+i] = readyPod(from+i, going)
				}
			}
			in := Input{Service: newService(), Pods: slices.Collect(maps.Values(pods)), Slices: a.list()}
			a.carryOut(MakePlan(in))
			want := map[string]bool{}
			for _, p := range pods {
				want[p.Status.PodIP] = p.DeletionTimestamp == nil && p.Status.Conditions[0].Status == corev1.ConditionTrue
			}
			if diff := cmp.Diff(want, a.endpoints()); diff != "" {
				t.Fatalf("endpoints (-want +got):\n%s", diff)
			}
			held := 0
			for _, s := range a.slices {
				held += len(s.Endpoints)
				if len(s.Endpoints) > maxEndpoints {
					t.Fatalf("slice %s has %d endpoints", s.Name, len(s.Endpoints))
				}
			}
			if held != len(pods) {
				t.Fatalf("%d endpoints for %d pods", held, len(pods))
			}
			in.Slices = a.list()
			r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			r.Shuffle(len(in.Pods), func(i, j int) { in.Pods[i], in.Pods[j] = in.Pods[j], in.Pods[i] })
			if again := MakePlan(in); !again.Empty() {
				t.Fatalf("plans %+v again", again)
			}
		}
	})
}

func TestEndpoints(t *testing.T) {
	in := Input{Service: newService(), Pods: []*corev1.Pod{readyPod(9), readyPod(1), readyPod(2, unready), readyPod(3, going)}}
	e := PlanEndpoints(in, nil)
	if e == nil || len(e.Subsets) != 1 {
		t.Fatalf("endpoints %+v", e)
	}
	s := e.Subsets[0]
	if len(s.Addresses) != 2 || s.Addresses[0].IP != "10.244.0.2" || s.Addresses[1].IP != "10.244.0.10" {
		t.Errorf("ready: %+v", s.Addresses)
	}
	if len(s.NotReadyAddresses) != 1 || s.NotReadyAddresses[0].IP != "10.244.0.3" {
		t.Errorf("not ready: %+v", s.NotReadyAddresses)
	}
	if again := PlanEndpoints(in, e); again != nil {
		t.Errorf("writes again: %+v", again)
	}
	slices.Reverse(in.Pods)
	if again := PlanEndpoints(in, e); again != nil {
		t.Errorf("another order writes again: %+v", again)
	}
	in.Pods = nil
	if e = PlanEndpoints(in, e); e == nil || len(e.Subsets) != 0 {
		t.Errorf("without pods: %+v", e)
	}
}

func TestEndpointsOverCapacity(t *testing.T) {
	in := Input{Service: newService()}
	for i := range 1200 {
		p := readyPod(i)
		if i%2 == 0 {
			unready(p)
		}
		in.Pods = append(in.Pods, p)
	}
	e := PlanEndpoints(in, nil)
	if len(e.Subsets[0].Addresses) != 600 || len(e.Subsets[0].NotReadyAddresses) != 400 || e.Annotations[corev1.EndpointsOverCapacity] != "truncated" {
		t.Errorf("%d ready, %d not, annotations %v", len(e.Subsets[0].Addresses), len(e.Subsets[0].NotReadyAddresses), e.Annotations)
	}
	if again := PlanEndpoints(in, e); again != nil {
		t.Error("writes again")
	}
}
