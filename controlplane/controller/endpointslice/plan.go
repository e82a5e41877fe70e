// Package endpointslice keeps the EndpointSlices, and the older Endpoints, of services that have a
// selector, and mirrors into slices the Endpoints that users write for services without one.
//
// desired.go says which endpoints a service has, plan.go how to lay them out in slices with as few
// writes as can be, endpoints.go the same for the single Endpoints object, mirror.go the way from Endpoints to slices; all
// are pure.
// controller.go carries the plan out. Slices that another controller manages are never touched.
package endpointslice

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"coracle/controlplane/controller/owner"
)

const (
	// ManagedBy is the value of endpointslice.kubernetes.io/managed-by on this controller's slices.
	ManagedBy = "endpointslice-controller.k8s.io"
	// maxEndpoints in one slice: a change of one endpoint sends the whole slice to every node.
	maxEndpoints = 100
)

// Input is a service, the pods that its selector matches, the zone of each node by name, and the
// slices that this controller holds for it; lists in any order.
type Input struct {
	Service *corev1.Service
	Pods    []*corev1.Pod
	Zones   map[string]string
	Slices  []*discoveryv1.EndpointSlice
}

// Plan is the writes that make the slices right.
type Plan struct {
	Create, Update, Delete []*discoveryv1.EndpointSlice
}

// Empty is true where the slices are right.
func (p Plan) Empty() bool { return len(p.Create)+len(p.Update)+len(p.Delete) == 0 }

// frame is what all slices of one service have in common.
type frame struct {
	namespace, prefix string
	labels            map[string]string
	owner             metav1.Object
	kind              schema.GroupVersionKind // of the owner
	trigger           time.Time
}

// MakePlan decides. It does not change its input.
func MakePlan(in Input) Plan {
	s := in.Service
	f := frame{
		namespace: s.Namespace, prefix: s.Name, labels: labelsFor(s), owner: s, kind: corev1.SchemeGroupVersion.WithKind("Service"),
		trigger: triggerTime(in),
	}
	return f.arrange(desired(in), in.Slices, families(s))
}

// arrange fits the wanted groups into the slices there are. Of each family that has no group one empty slice is kept, so
// that readers know that the service was looked at.
func (f frame) arrange(want map[groupKey]*group, has []*discoveryv1.EndpointSlice, families []corev1.IPFamily) Plan {
	var plan Plan
	existing := map[groupKey][]*discoveryv1.EndpointSlice{}
	for _, s := range has {
		if s.DeletionTimestamp == nil {
			k := groupKey{s.AddressType, portsKey(s.Ports)}
			existing[k] = append(existing[k], s)
		}
	}
	spare := map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice{} // hold nothing that is wanted
	for k, list := range existing {
		if want[k] == nil {
			spare[k.kind] = append(spare[k.kind], list...)
		}
	}
	served := map[discoveryv1.AddressType]bool{}
	for _, k := range slices.SortedFunc(maps.Keys(want), compareKeys) {
		f.layOut(want[k], existing[k], &plan)
		served[k.kind] = true
	}
	for _, family := range families {
		kind := discoveryv1.AddressType(family)
		if served[kind] {
			continue
		}
		list := spare[kind]
		slices.SortFunc(list, bySize)
		g := &group{family: family}
		if len(list) == 0 {
			plan.Create = append(plan.Create, f.newSlice(g, nil))
			continue
		}
		f.change(g, list[0], nil, &plan)
		spare[kind] = list[1:]
	}
	for _, list := range spare {
		plan.Delete = append(plan.Delete, list...)
	}
	slices.SortFunc(plan.Delete, func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	return plan
}

func compareKeys(a, b groupKey) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.ports, b.ports))
}

// bySize orders the fullest first, so that few slices stay nearly full rather than many half empty.
func bySize(a, b *discoveryv1.EndpointSlice) int {
	return cmp.Or(cmp.Compare(len(b.Endpoints), len(a.Endpoints)), cmp.Compare(a.Name, b.Name))
}

// layOut fits the endpoints of one group into its slices: what is there stays where it is, what is new goes
// first into slices that change anyway, then into the fullest with room for all the rest, then into new ones.
func (f frame) layOut(g *group, list []*discoveryv1.EndpointSlice, plan *Plan) {
	slices.SortFunc(list, bySize)
	missing := maps.Clone(g.endpoints)
	kept := make([][]discoveryv1.Endpoint, len(list))
	dirty := make([]bool, len(list))
	for i, s := range list {
		for _, e := range s.Endpoints {
			id := identity(e)
			now, ok := missing[id]
			if !ok {
				dirty[i] = true // gone, or held by an earlier slice already
				continue
			}
			delete(missing, id)
			now.Hints = e.Hints
			if !equality.Semantic.DeepEqual(now, e) {
				dirty[i] = true
			}
			kept[i] = append(kept[i], now)
		}
	}
	rest := make([]discoveryv1.Endpoint, 0, len(missing))
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		rest = append(rest, missing[id])
	}
	fill := func(i int) {
		n := min(max(0, maxEndpoints-len(kept[i])), len(rest))
		kept[i], rest = append(kept[i], rest[:n]...), rest[n:]
	}
	for i := range list {
		if dirty[i] && len(kept[i]) > 0 {
			fill(i)
		}
	}
	for i := range list {
		if n := len(rest) % maxEndpoints; n > 0 && !dirty[i] && len(kept[i])+n <= maxEndpoints {
			kept[i], rest = append(kept[i], rest[:n]...), rest[n:]
			break
		}
	}
	for i, s := range list {
		if len(kept[i]) == 0 && len(rest) > 0 {
			fill(i) // rather than deleting one and making another
		}
		if len(kept[i]) == 0 {
			plan.Delete = append(plan.Delete, s)
			continue
		}
		f.change(g, s, kept[i], plan)
	}
	for len(rest) > 0 {
		n := min(maxEndpoints, len(rest))
		plan.Create = append(plan.Create, f.newSlice(g, rest[:n]))
		rest = rest[n:]
	}
}

// change plans an update of s to hold exactly these endpoints, if it differs in anything.
func (f frame) change(g *group, s *discoveryv1.EndpointSlice, endpoints []discoveryv1.Endpoint, plan *Plan) {
	next := f.newSlice(g, endpoints)
	if equality.Semantic.DeepEqual(endpoints, s.Endpoints) && portsKey(s.Ports) == portsKey(g.ports) &&
		maps.Equal(next.Labels, s.Labels) && metav1.IsControlledBy(s, f.owner) {
		return
	}
	updated := s.DeepCopy()
	updated.Endpoints, updated.Ports, updated.Labels = next.Endpoints, next.Ports, next.Labels
	updated.OwnerReferences = next.OwnerReferences
	updated.Annotations = maps.Clone(s.Annotations)
	if at, ok := next.Annotations[corev1.EndpointsLastChangeTriggerTime]; ok {
		if updated.Annotations == nil {
			updated.Annotations = map[string]string{}
		}
		updated.Annotations[corev1.EndpointsLastChangeTriggerTime] = at
	} else {
		delete(updated.Annotations, corev1.EndpointsLastChangeTriggerTime)
	}
	plan.Update = append(plan.Update, updated)
}

func (f frame) newSlice(g *group, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    f.prefix + "-",
			Namespace:       f.namespace,
			Labels:          maps.Clone(f.labels),
			OwnerReferences: []metav1.OwnerReference{owner.Reference(f.owner, f.kind)},
		},
		AddressType: discoveryv1.AddressType(g.family),
		Endpoints:   endpoints,
		Ports:       g.ports,
	}
	if s.Endpoints == nil {
		s.Endpoints = []discoveryv1.Endpoint{}
	}
	if s.Ports == nil {
		s.Ports = []discoveryv1.EndpointPort{}
	}
	if !f.trigger.IsZero() {
		s.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: f.trigger.UTC().Format(time.RFC3339Nano)}
	}
	return s
}

// labelsFor are the service's own labels and those by which slices are found.
func labelsFor(s *corev1.Service) map[string]string {
	out := map[string]string{}
	maps.Copy(out, s.Labels)
	delete(out, corev1.IsHeadlessService)
	if headless(s) {
		out[corev1.IsHeadlessService] = ""
	}
	out[discoveryv1.LabelServiceName] = s.Name
	out[discoveryv1.LabelManagedBy] = ManagedBy
	return out
}

// triggerTime is the earliest change of a pod or the service that the slices do not speak of yet: how
// long programming a change takes is measured from it. Zero where none is known.
func triggerTime(in Input) time.Time {
	var told time.Time
	for _, s := range in.Slices {
		at, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
		if err == nil && at.After(told) {
			told = at
		}
	}
	var first time.Time
	see := func(t metav1.Time) {
		if t.After(told) && (first.IsZero() || t.Time.Before(first)) {
			first = t.Time
		}
	}
	see(in.Service.CreationTimestamp)
	for _, p := range in.Pods {
		for i := range p.Status.Conditions {
			if p.Status.Conditions[i].Type == corev1.PodReady {
				see(p.Status.Conditions[i].LastTransitionTime)
			}
		}
		see(ptr.Deref(p.DeletionTimestamp, metav1.Time{}))
	}
	return first
}
