package store

import (
	"bytes"
	"cmp"
	"slices"
)

// Local objects are those that the node assigns to itself: pods from its own files. They are seen
// beside what the control plane assigned, but not written to disk, since their files are there, and not told to the gateway.

// SetLocal replaces all local objects. whole says that they are all there are; while it is false, one that is
// missing may only not have been read yet. Watchers hear of what changed.
func (s *Store) SetLocal(objects []Object, whole bool) {
	now := map[Key]Object{}
	for _, o := range objects {
		o.Local = true
		now[o.Key()] = o
	}
	s.mu.Lock()
	before, wasWhole := s.local, s.localWhole
	s.local, s.localWhole = now, whole
	s.mu.Unlock()
	var changes []Change
	for k, o := range before {
		if _, ok := now[k]; !ok {
			changes = append(changes, Change{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, UID: o.UID, Removed: true})
		}
	}
	for k, o := range now {
		if old, ok := before[k]; !ok || !bytes.Equal(old.Data, o.Data) {
			changes = append(changes, Change{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, UID: o.UID})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID)) })
	if whole && !wasWhole {
		changes = append(changes, Change{All: true}) // what was not there before is now known to be gone
	}
	s.notify(changes)
}

// LocalWhole says whether the local objects are all there are.
func (s *Store) LocalWhole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.localWhole
}

// locals are the local objects of a kind, ordered as Objects orders them.
func (s *Store) locals(kind string) []Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Object
	for _, o := range s.local {
		if o.Kind == kind {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b Object) int { return bytes.Compare(a.Key().bytes(), b.Key().bytes()) })
	return out
}

// localPod finds a local pod by its uid.
func (s *Store) localPod(uid string) (Object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, o := range s.local {
		if k.Kind == KindPod && k.UID == uid {
			return o, true
		}
	}
	return Object{}, false
}
