package gc

import (
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// vertex is one object as it was last seen. It is replaced, never changed.
type vertex struct {
	kind            *resource // what it is
	namespace, name string
	uid             types.UID
	version         string // resourceVersion
	owners          []metav1.OwnerReference
	deleting        bool
	foreground      bool
	orphan          bool
}

func newVertex(kind *resource, o metav1.Object) *vertex {
	return &vertex{
		kind: kind, namespace: o.GetNamespace(), name: o.GetName(), uid: o.GetUID(), version: o.GetResourceVersion(),
		owners: o.GetOwnerReferences(), deleting: o.GetDeletionTimestamp() != nil,
		foreground: slices.Contains(o.GetFinalizers(), metav1.FinalizerDeleteDependents),
		orphan:     slices.Contains(o.GetFinalizers(), metav1.FinalizerOrphanDependents),
	}
}

// is true where a reference speaks of this very object, seen from a dependent in that namespace.
func (v *vertex) is(ref metav1.OwnerReference, namespace string) bool {
	return v.uid == ref.UID && v.name == ref.Name && v.kind.kind == ref.Kind && v.kind.gvr.Group == groupOf(ref.APIVersion) &&
		(!v.kind.namespaced || v.namespace == namespace)
}

// graph is who owns whom. Owners that were never seen have dependents too. Safe for concurrent use.
type graph struct {
	mu         sync.Mutex
	vertices   map[types.UID]*vertex
	dependents map[types.UID]map[types.UID]bool // by owner
	absent     map[types.UID]bool               // owners the API says do not exist; a uid never comes back
}

func newGraph() *graph {
	return &graph{vertices: map[types.UID]*vertex{}, dependents: map[types.UID]map[types.UID]bool{}, absent: map[types.UID]bool{}}
}

func (g *graph) get(uid types.UID) *vertex {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.vertices[uid]
}

// set takes an object's newest state and returns the objects to look at because of it.
func (g *graph) set(v *vertex) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.vertices[v.uid]
	if before == nil && len(v.owners) == 0 && !v.deleting {
		g.vertices[v.uid] = v
		delete(g.absent, v.uid)
		return nil
	}
	var look []types.UID
	if before != nil {
		for _, ref := range before.owners {
			if !slices.ContainsFunc(v.owners, func(r metav1.OwnerReference) bool { return r.UID == ref.UID }) {
				g.unlink(ref.UID, v.uid)
				look = append(look, g.ifWaiting(ref.UID)...)
			}
		}
	}
	g.vertices[v.uid] = v
	for _, ref := range v.owners {
		if g.dependents[ref.UID] == nil {
			g.dependents[ref.UID] = map[types.UID]bool{}
		}
		g.dependents[ref.UID][v.uid] = true
		if owner := g.vertices[ref.UID]; owner == nil || !owner.is(ref, v.namespace) || (owner.deleting && owner.foreground) {
			look = append(look, v.uid)
		}
		if v.deleting || before == nil || blocks(before, ref.UID) != blocks(v, ref.UID) {
			look = append(look, g.ifWaiting(ref.UID)...)
		}
	}
	if v.deleting && (v.foreground || v.orphan) {
		look = append(look, v.uid)
		if v.foreground {
			for d := range g.dependents[v.uid] {
				look = append(look, d)
			}
		}
	}
	return look
}

// remove forgets an object that was deleted and returns the objects to look at because of it.
func (g *graph) remove(uid types.UID) []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.vertices[uid]
	if v == nil {
		return nil
	}
	delete(g.vertices, uid)
	var look []types.UID
	for _, ref := range v.owners {
		g.unlink(ref.UID, uid)
		look = append(look, g.ifWaiting(ref.UID)...)
	}
	for d := range g.dependents[uid] {
		look = append(look, d)
	}
	return look
}

func (g *graph) unlink(owner, dependent types.UID) {
	delete(g.dependents[owner], dependent)
	if len(g.dependents[owner]) == 0 {
		delete(g.dependents, owner)
		delete(g.absent, owner) // nobody asks for it any more
	}
}

func (g *graph) ifWaiting(uid types.UID) []types.UID {
	if v := g.vertices[uid]; v != nil && v.deleting && v.foreground {
		return []types.UID{uid}
	}
	return nil
}

func blocks(v *vertex, owner types.UID) bool {
	for _, ref := range v.owners {
		if ref.UID == owner {
			return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
		}
	}
	return false
}

// dependentsOf describes the dependents of an owner. One that owns itself need not wait for itself.
func (g *graph) dependentsOf(uid types.UID) []Dependent {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []Dependent
	for d := range g.dependents[uid] {
		if v := g.vertices[d]; v != nil && d != uid {
			out = append(out, Dependent{UID: d, Blocks: blocks(v, uid), Deleting: v.deleting, Foreground: v.foreground})
		}
	}
	return out
}

// suspects are the objects to look at once everything has been listed: those with an owner that is not there or goes,
// and those on their way out.
func (g *graph) suspects() []types.UID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []types.UID
	for uid, v := range g.vertices {
		look := v.deleting && (v.foreground || v.orphan)
		for _, ref := range v.owners {
			owner := g.vertices[ref.UID]
			look = look || owner == nil || !owner.is(ref, v.namespace) || (owner.deleting && owner.foreground)
		}
		if look {
			out = append(out, uid)
		}
	}
	return out
}

func (g *graph) isAbsent(uid types.UID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.absent[uid]
}

func (g *graph) setAbsent(uid types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.vertices[uid] == nil && len(g.dependents[uid]) > 0 {
		g.absent[uid] = true
	}
}

// dropKind forgets all objects of a resource that is not served any more.
func (g *graph) dropKind(kind *resource) (look []types.UID) {
	g.mu.Lock()
	var uids []types.UID
	for uid, v := range g.vertices {
		if v.kind == kind {
			uids = append(uids, uid)
		}
	}
	g.mu.Unlock()
	for _, uid := range uids {
		look = append(look, g.remove(uid)...)
	}
	return look
}
