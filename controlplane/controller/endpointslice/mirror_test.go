package endpointslice

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMirror(t *testing.T) {
	s := newService(func(s *corev1.Service) { s.Spec.Selector = nil })
	e := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "e", Labels: map[string]string{"mine": "yes"}},
		Subsets: []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}, {IP: "2001:db8::1"}}, NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.2"}},
			Ports: []corev1.EndpointPort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		}},
	}
	var a api
	if n := a.carryOut(PlanMirror(s, e, nil)); n != 2 {
		t.Fatalf("%d writes, want a slice for each family", n)
	}
	if diff := cmp.Diff(map[string]bool{"192.0.2.1": true, "192.0.2.2": false, "2001:db8::1": true}, a.endpoints()); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	for _, slice := range a.slices {
		want := map[string]string{"mine": "yes", discoveryv1.LabelServiceName: "web", discoveryv1.LabelManagedBy: MirroredBy}
		if diff := cmp.Diff(want, slice.Labels); diff != "" || !metav1.IsControlledBy(slice, e) {
			t.Errorf("slice %+v\n%s", slice.ObjectMeta, diff)
		}
	}
	if p := PlanMirror(s, e, a.list()); !p.Empty() {
		t.Errorf("plans again: %+v", p)
	}
	for name, change := range map[string]func(*corev1.Endpoints){
		"asks not to be mirrored": func(e *corev1.Endpoints) { e.Labels[discoveryv1.LabelSkipMirror] = "true" },
		"a lock":                  func(e *corev1.Endpoints) { e.Annotations = map[string]string{leaderElectionEndpoints: "{}"} },
		"made by us":              func(e *corev1.Endpoints) { e.Labels[endpointsManagedBy] = endpointsController },
		"empty":                   func(e *corev1.Endpoints) { e.Subsets = nil },
	} {
		other := e.DeepCopy()
		change(other)
		if p := PlanMirror(s, other, a.list()); len(p.Delete) != 2 || len(p.Create)+len(p.Update) != 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestMirrorIsBounded(t *testing.T) {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Subsets: make([]corev1.EndpointSubset, 1)}
	for i := range 1500 {
		e.Subsets[0].Addresses = append(e.Subsets[0].Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.0.%d.%d", i/250, i%250)})
	}
	var a api
	a.carryOut(PlanMirror(newService(), e, nil))
	if n := len(a.endpoints()); n != 1000 || len(a.slices) != 10 {
		t.Errorf("%d endpoints in %d slices", n, len(a.slices))
	}
}
