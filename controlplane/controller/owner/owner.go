// Package owner decides which objects belong to a controller object: which it holds, which orphans
// it should adopt and which it should release. It is pure; the callers patch.
package owner

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Claim is the outcome of Sort.
type Claim[T any] struct {
	Held    []T // controlled by the owner and selected by it
	Adopt   []T // selected, controlled by nobody
	Release []T // controlled by the owner, no longer selected
}

// Sort goes through objects of the owner's namespace. An owner that is being deleted adopts and
// releases nothing; an orphan that is being deleted is not adopted.
func Sort[T metav1.Object](owner metav1.Object, selector labels.Selector, objects []T) Claim[T] {
	var c Claim[T]
	deleted := owner.GetDeletionTimestamp() != nil
	for _, o := range objects {
		matches := selector.Matches(labels.Set(o.GetLabels()))
		switch ref := metav1.GetControllerOfNoCopy(o); {
		case ref != nil && ref.UID != owner.GetUID():
		case ref != nil && matches:
			c.Held = append(c.Held, o)
		case ref != nil && !deleted:
			c.Release = append(c.Release, o)
		case ref == nil && matches && !deleted && o.GetDeletionTimestamp() == nil:
			c.Adopt = append(c.Adopt, o)
		}
	}
	return c
}

// Reference is the ownerReference of a controller of the given kind, blocking its deletion in the
// foreground.
func Reference(owner metav1.Object, kind schema.GroupVersionKind) metav1.OwnerReference {
	return *metav1.NewControllerRef(owner, kind)
}

// AdoptPatch is the strategic merge patch that makes ref an owner of the object. It fails on
// another object of the same name, by uid.
func AdoptPatch(uid types.UID, ref metav1.OwnerReference) ([]byte, error) {
	return patch(uid, ref)
}

// ReleasePatch is the strategic merge patch that takes the owner with that uid away.
func ReleasePatch(uid, ownerUID types.UID) ([]byte, error) {
	return patch(uid, map[string]string{"$patch": "delete", "uid": string(ownerUID)})
}

func patch(uid types.UID, ref any) ([]byte, error) {
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uid, "ownerReferences": []any{ref}}})
	if err != nil {
		return nil, fmt.Errorf("encode an owner reference: %w", err)
	}
	return raw, nil
}

// SameController is true where both objects have the same controller, or neither has one.
func SameController(a, b metav1.Object) bool {
	x, y := metav1.GetControllerOfNoCopy(a), metav1.GetControllerOfNoCopy(b)
	if x == nil || y == nil {
		return x == y
	}
	return x.UID == y.UID
}
