package gc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

func TestPlan(t *testing.T) {
	owners := func(states ...OwnerState) (out []Owner) {
		for i, s := range states {
			out = append(out, Owner{UID: types.UID(fmt.Sprint("o", i)), State: s})
		}
		return out
	}
	dependents := []Dependent{{UID: "d1", Blocks: true}, {UID: "d2"}, {UID: "d3", Deleting: true}}
	for name, tc := range map[string]struct {
		object Object
		want   string
	}{
		"nobody owns it":                       {Object{}, ""},
		"its owner lives":                      {Object{Owners: owners(Present)}, ""},
		"its owner is gone":                    {Object{Owners: owners(Absent)}, "delete it (Background)"},
		"all its owners are gone":              {Object{Owners: owners(Absent, Absent)}, "delete it (Background)"},
		"one of two is gone":                   {Object{Owners: owners(Absent, Present)}, "drop owners [o0]"},
		"one of two waits":                     {Object{Owners: owners(Present, Waiting)}, "drop owners [o1]"},
		"its owner waits":                      {Object{Owners: owners(Waiting)}, "delete it (Background)"},
		"its owner waits, it has dependents":   {Object{Owners: owners(Waiting), Dependents: dependents}, "delete it (Foreground)"},
		"a circle":                             {Object{Owners: owners(Waiting), Dependents: []Dependent{{UID: "d", Deleting: true, Foreground: true}}}, "block no owner any more; delete it (Foreground)"},
		"owner gone, it wants to orphan":       {Object{Owners: owners(Absent), Orphan: true}, "delete it (Orphan)"},
		"owner gone, it wants to go last":      {Object{Owners: owners(Absent), Foreground: true}, "delete it (Foreground)"},
		"going, nothing to do":                 {Object{Deleting: true, Owners: owners(Absent), Dependents: dependents}, ""},
		"going last, dependents block":         {Object{Deleting: true, Foreground: true, Dependents: dependents}, "look at dependents [d1 d2]"},
		"going last, those left do not block":  {Object{Deleting: true, Foreground: true, Dependents: dependents[1:]}, "look at dependents [d2]; remove finalizer foregroundDeletion"},
		"going last, none left":                {Object{Deleting: true, Foreground: true}, "remove finalizer foregroundDeletion"},
		"going without its dependents":         {Object{Deleting: true, Orphan: true, Dependents: dependents}, "orphan dependents [d1 d2 d3]; remove finalizer orphan"},
		"going without dependents it has none": {Object{Deleting: true, Orphan: true}, "remove finalizer orphan"},
	} {
		var got []string
		for _, a := range MakePlan(tc.object) {
			got = append(got, a.String())
		}
		if s := strings.Join(got, "; "); s != tc.want {
			t.Errorf("%s: %q, want %q", name, s, tc.want)
		}
	}
}

// thing is an object of the model.
type thing struct {
	uid        types.UID
	owners     []metav1.OwnerReference
	deleting   bool
	finalizers map[string]bool
}

var things = &resource{gvr: schema.GroupVersionResource{Version: "v1", Resource: "things"}, kind: "Thing", namespaced: true, watched: true}

// model is an API with things in it and a graph that is told of every change.
type model struct {
	things map[types.UID]*thing
	graph  *graph
	look   map[types.UID]bool
}

func (m *model) note(uids []types.UID) {
	for _, u := range uids {
		m.look[u] = true
	}
}

func (m *model) changed(th *thing) {
	if th.deleting && len(th.finalizers) == 0 {
		delete(m.things, th.uid)
		m.note(m.graph.remove(th.uid))
		return
	}
	m.note(m.graph.set(&vertex{
		kind: things, namespace: "ns", name: string(th.uid), uid: th.uid, owners: slices.Clone(th.owners), deleting: th.deleting,
		foreground: th.finalizers[metav1.FinalizerDeleteDependents], orphan: th.finalizers[metav1.FinalizerOrphanDependents],
	}))
}

func (m *model) delete(uid types.UID, policy metav1.DeletionPropagation) {
	th := m.things[uid]
	if th == nil {
		return
	}
	th.deleting = true
	switch policy {
	case metav1.DeletePropagationForeground:
		th.finalizers[metav1.FinalizerDeleteDependents] = true
	case metav1.DeletePropagationOrphan:
		th.finalizers[metav1.FinalizerOrphanDependents] = true
	}
	m.changed(th)
}

func (m *model) dropOwners(uid types.UID, gone ...types.UID) {
	if th := m.things[uid]; th != nil {
		th.owners = slices.DeleteFunc(slices.Clone(th.owners), func(r metav1.OwnerReference) bool { return slices.Contains(gone, r.UID) })
		m.changed(th)
	}
}

// reconcile does to one thing what the controller does.
func (m *model) reconcile(uid types.UID) {
	v := m.graph.get(uid)
	if v == nil {
		return
	}
	o := Object{UID: uid, Deleting: v.deleting, Foreground: v.foreground, Orphan: v.orphan, Dependents: m.graph.dependentsOf(uid)}
	for _, ref := range v.owners {
		state := Absent
		if th := m.things[ref.UID]; th != nil {
			state = Present
			if th.deleting && th.finalizers[metav1.FinalizerDeleteDependents] {
				state = Waiting
			}
		}
		o.Owners = append(o.Owners, Owner{UID: ref.UID, State: state})
	}
	for _, a := range MakePlan(o) {
		switch a.Kind {
		case Delete:
			m.delete(uid, a.Policy)
		case DropOwners:
			m.dropOwners(uid, a.UIDs...)
		case Unblock:
			th := m.things[uid]
			th.owners = slices.Clone(th.owners)
			for i := range th.owners {
				th.owners[i].BlockOwnerDeletion = nil
			}
			m.changed(th)
		case Orphan:
			for _, d := range a.UIDs {
				m.dropOwners(d, uid)
			}
		case RemoveFinalizer:
			if th := m.things[uid]; th != nil {
				delete(th.finalizers, a.Finalizer)
				m.changed(th)
			}
		case Wake:
			m.note(a.UIDs)
		}
	}
}

// settle reconciles what is to be looked at until nothing is.
func (m *model) settle(t *rapid.T) {
	for n := 0; len(m.look) > 0; n++ {
		if n > 2000 {
			t.Fatalf("does not settle, still to look at: %v", slices.Sorted(maps.Keys(m.look)))
		}
		uid := slices.Min(slices.Collect(maps.Keys(m.look)))
		delete(m.look, uid)
		m.reconcile(uid)
	}
}

// In a forest of owners, any thing is deleted in any way: in the end exactly those have gone that nobody owned but what
// went, nothing waits, and nothing refers to what is gone.
func TestForestProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{things: map[types.UID]*thing{}, graph: newGraph(), look: map[types.UID]bool{}}
		for i := range rapid.IntRange(1, 12).Draw(t, "things") {
			th := &thing{uid: types.UID(fmt.Sprintf("t%02d", i)), finalizers: map[string]bool{}}
			if i > 0 {
				for _, o := range rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, min(i, 2), rapid.ID[int]).Draw(t, "owners") {
					ref := metav1.OwnerReference{APIVersion: "v1", Kind: "Thing", Name: fmt.Sprintf("t%02d", o), UID: types.UID(fmt.Sprintf("t%02d", o))}
					if rapid.Bool().Draw(t, "blocks") {
						yes := true
						ref.BlockOwnerDeletion = &yes
					}
					th.owners = append(th.owners, ref)
				}
			}
			m.things[th.uid] = th
		}
		all := slices.Sorted(maps.Keys(m.things))
		for _, uid := range rapid.Permutation(all).Draw(t, "order of events") {
			m.changed(m.things[uid])
		}
		m.settle(t)
		if len(m.things) != len(all) {
			t.Fatalf("%d of %d are left though nothing was deleted", len(m.things), len(all))
		}
		victim := rapid.SampledFrom(all).Draw(t, "victim")
		policy := rapid.SampledFrom([]metav1.DeletionPropagation{
			metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan,
		}).Draw(t, "policy")
		gone := map[types.UID]bool{victim: true}
		for _, uid := range all { // owners come before what they own
			refs := m.things[uid].owners
			if policy != metav1.DeletePropagationOrphan && len(refs) > 0 && !slices.ContainsFunc(refs, func(r metav1.OwnerReference) bool { return !gone[r.UID] }) {
				gone[uid] = true
			}
		}
		m.delete(victim, policy)
		m.settle(t)
		for _, uid := range all {
			if (m.things[uid] == nil) != gone[uid] {
				t.Errorf("%s: there %v, should be gone %v", uid, m.things[uid] != nil, gone[uid])
			}
			if th := m.things[uid]; th != nil {
				if th.deleting || slices.ContainsFunc(th.owners, func(r metav1.OwnerReference) bool { return gone[r.UID] }) {
					t.Errorf("%s is left as %+v", uid, th)
				}
			}
		}
	})
}

// Two that own each other can be deleted in the foreground.
func TestCircle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{things: map[types.UID]*thing{}, graph: newGraph(), look: map[types.UID]bool{}}
		n := rapid.IntRange(1, 4).Draw(t, "length")
		yes := true
		for i := range n {
			owner := fmt.Sprint("t", (i+1)%n)
			th := &thing{uid: types.UID(fmt.Sprint("t", i)), finalizers: map[string]bool{}, owners: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Thing", Name: owner, UID: types.UID(owner), BlockOwnerDeletion: &yes},
			}}
			m.things[th.uid] = th
		}
		for _, th := range m.things {
			m.changed(th)
		}
		m.settle(t)
		m.delete("t0", metav1.DeletePropagationForeground)
		m.settle(t)
		if len(m.things) != 0 {
			t.Fatalf("left: %v", slices.Sorted(maps.Keys(m.things)))
		}
	})
}
