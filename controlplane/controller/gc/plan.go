// Package gc deletes objects whose owners are gone and carries out the ways of deleting an owner: its dependents in the
// background, before it (foreground) or not at all (orphan).
//
//	plan.go      PURE: what to do with one object, given the state of its owners and dependents
//	graph.go     who owns whom, from the metadata of every object that can be listed, watched and deleted
//	resources.go what the server serves, and the kinds' resources
//	controller.go, effect.go  the watches, the loop, the calls
//
// Invariants: nothing is deleted before every watch has delivered its first list; an owner counts as absent only
// after the API itself has said so; a deletion carries the uid and resourceVersion that it was decided on.
package gc

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// OwnerState is what is known of an owner.
type OwnerState int

const (
	// Present: it exists and keeps its dependents. So does one that cannot be judged.
	Present OwnerState = iota
	// Waiting: it is being deleted in the foreground and waits for its dependents to go first.
	Waiting
	// Absent: the API says that it does not exist.
	Absent
)

// Owner is one owner reference and its state.
type Owner struct {
	UID   types.UID
	State OwnerState
}

// Dependent is an object that names the one at hand as an owner.
type Dependent struct {
	UID        types.UID
	Blocks     bool // its reference says blockOwnerDeletion
	Deleting   bool
	Foreground bool // it waits for dependents of its own
}

// Object is what deciding about one object needs.
type Object struct {
	UID        types.UID
	Deleting   bool
	Foreground bool // has the foregroundDeletion finalizer
	Orphan     bool // has the orphan finalizer
	Owners     []Owner
	Dependents []Dependent
}

// ActionKind is what an action does.
type ActionKind int

// The kinds of action.
const (
	Delete          ActionKind = iota // the object, with Policy
	DropOwners                        // take the references to UIDs out of the object
	Unblock                           // the object's references block their owners no more
	Orphan                            // take the reference to the object out of the dependents UIDs
	RemoveFinalizer                   // Finalizer, from the object
	Wake                              // look at the dependents UIDs, which are to go first
)

// Action is one thing to do, in the order of the plan; a failed one ends the plan.
type Action struct {
	Kind      ActionKind
	Policy    metav1.DeletionPropagation
	UIDs      []types.UID
	Finalizer string
}

// String reads as a sentence.
func (a Action) String() string {
	switch a.Kind {
	case Delete:
		return fmt.Sprintf("delete it (%s)", a.Policy)
	case DropOwners:
		return fmt.Sprintf("drop owners %v", a.UIDs)
	case Unblock:
		return "block no owner any more"
	case Orphan:
		return fmt.Sprintf("orphan dependents %v", a.UIDs)
	case RemoveFinalizer:
		return "remove finalizer " + a.Finalizer
	}
	return fmt.Sprintf("look at dependents %v", a.UIDs)
}

// MakePlan decides about one object.
func MakePlan(o Object) []Action {
	if o.Deleting {
		return planDeleting(o)
	}
	var gone, waiting []types.UID
	present := false
	for _, w := range o.Owners {
		switch w.State {
		case Present:
			present = true
		case Waiting:
			waiting = append(waiting, w.UID)
		case Absent:
			gone = append(gone, w.UID)
		}
	}
	switch {
	case len(gone)+len(waiting) == 0:
		return nil
	case present:
		// It lives on for the others; those that go must not wait for it.
		return []Action{{Kind: DropOwners, UIDs: sorted(append(gone, waiting...))}}
	case len(waiting) > 0 && len(o.Dependents) > 0:
		var plan []Action
		if slices.ContainsFunc(o.Dependents, func(d Dependent) bool { return d.Deleting && d.Foreground }) {
			plan = append(plan, Action{Kind: Unblock}) // a circle would wait for itself for ever
		}
		return append(plan, Action{Kind: Delete, Policy: metav1.DeletePropagationForeground})
	}
	policy := metav1.DeletePropagationBackground
	if o.Orphan {
		policy = metav1.DeletePropagationOrphan
	} else if o.Foreground {
		policy = metav1.DeletePropagationForeground
	}
	return []Action{{Kind: Delete, Policy: policy}}
}

// planDeleting sees to the finalizers that stand for the ways of deleting.
func planDeleting(o Object) []Action {
	switch {
	case o.Orphan:
		var plan []Action
		if uids := pick(o.Dependents, func(Dependent) bool { return true }); len(uids) > 0 {
			plan = append(plan, Action{Kind: Orphan, UIDs: uids})
		}
		return append(plan, Action{Kind: RemoveFinalizer, Finalizer: metav1.FinalizerOrphanDependents})
	case o.Foreground:
		var plan []Action
		if uids := pick(o.Dependents, func(d Dependent) bool { return !d.Deleting }); len(uids) > 0 {
			plan = append(plan, Action{Kind: Wake, UIDs: uids})
		}
		if !slices.ContainsFunc(o.Dependents, func(d Dependent) bool { return d.Blocks }) {
			plan = append(plan, Action{Kind: RemoveFinalizer, Finalizer: metav1.FinalizerDeleteDependents})
		}
		return plan
	}
	return nil
}

func pick(list []Dependent, f func(Dependent) bool) []types.UID {
	var out []types.UID
	for _, d := range list {
		if f(d) {
			out = append(out, d.UID)
		}
	}
	return sorted(out)
}

func sorted(uids []types.UID) []types.UID {
	slices.SortFunc(uids, func(a, b types.UID) int { return cmp.Compare(a, b) })
	return uids
}
