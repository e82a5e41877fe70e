package gc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
)

func (c *Controller) reconcile(ctx context.Context, uid types.UID) error {
	v := c.graph.get(uid)
	if v == nil || !c.isSynced() {
		return nil
	}
	o := Object{UID: uid, Deleting: v.deleting, Foreground: v.foreground, Orphan: v.orphan, Dependents: c.graph.dependentsOf(uid)}
	if !v.deleting {
		for _, ref := range v.owners {
			state, err := c.stateOf(ctx, v, ref)
			if err != nil {
				return err
			}
			o.Owners = append(o.Owners, Owner{UID: ref.UID, State: state})
		}
	}
	for _, action := range MakePlan(o) {
		if err := c.execute(ctx, v, action); err != nil {
			return fmt.Errorf("%s %s/%s: %s: %w", v.kind.gvr.Resource, v.namespace, v.name, action, err)
		}
	}
	return nil
}

// stateOf finds out about one owner: from the graph where it is there as the reference says, from the API otherwise.
func (c *Controller) stateOf(ctx context.Context, v *vertex, ref metav1.OwnerReference) (OwnerState, error) {
	owner := c.graph.get(ref.UID)
	if owner != nil && owner.is(ref, v.namespace) {
		if owner.deleting && owner.foreground {
			return Waiting, nil
		}
		return Present, nil
	}
	if owner != nil && owner.kind.namespaced && owner.namespace != v.namespace {
		c.complain(v, ref)
	}
	if c.graph.isAbsent(ref.UID) {
		return Absent, nil
	}
	r := c.resourceOf(ref)
	if r == nil {
		return Present, fmt.Errorf("owner %s/%s of %s %s/%s is of a kind that is not served: not deleting on a guess",
			ref.APIVersion, ref.Kind, v.kind.gvr.Resource, v.namespace, v.name)
	}
	if r.namespaced && !v.kind.namespaced {
		c.complain(v, ref)
		return Present, nil // such an owner can never be found; the object is left alone
	}
	live, err := c.api(r, v.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err), err == nil && live.UID != ref.UID:
		if owner == nil {
			c.graph.setAbsent(ref.UID)
		}
		return Absent, nil
	case err != nil:
		return Present, fmt.Errorf("look at owner %s %s/%s: %w", r.gvr.Resource, v.namespace, ref.Name, err)
	case live.DeletionTimestamp != nil && slices.Contains(live.Finalizers, metav1.FinalizerDeleteDependents):
		return Waiting, nil
	}
	return Present, nil
}

func (c *Controller) api(r *resource, namespace string) metadata.ResourceInterface {
	if r.namespaced {
		return c.metadata.Resource(r.gvr).Namespace(namespace)
	}
	return c.metadata.Resource(r.gvr)
}

func (c *Controller) execute(ctx context.Context, v *vertex, a Action) error {
	switch a.Kind {
	case Delete:
		err := c.api(v.kind, v.namespace).Delete(ctx, v.name, metav1.DeleteOptions{
			PropagationPolicy: &a.Policy, Preconditions: &metav1.Preconditions{UID: &v.uid, ResourceVersion: &v.version},
		})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	case DropOwners:
		return c.editOwners(ctx, v, func(refs []metav1.OwnerReference) []metav1.OwnerReference {
			return slices.DeleteFunc(refs, func(r metav1.OwnerReference) bool { return slices.Contains(a.UIDs, r.UID) })
		})
	case Unblock:
		return c.editOwners(ctx, v, func(refs []metav1.OwnerReference) []metav1.OwnerReference {
			for i := range refs {
				refs[i].BlockOwnerDeletion = new(bool)
			}
			return refs
		})
	case Orphan:
		for _, uid := range a.UIDs {
			d := c.graph.get(uid)
			if d == nil {
				continue
			}
			if err := c.editOwners(ctx, d, func(refs []metav1.OwnerReference) []metav1.OwnerReference {
				return slices.DeleteFunc(refs, func(r metav1.OwnerReference) bool { return r.UID == v.uid })
			}); err != nil {
				return fmt.Errorf("%s %s/%s: %w", d.kind.gvr.Resource, d.namespace, d.name, err)
			}
		}
		return nil
	case RemoveFinalizer:
		return c.edit(ctx, v, func(live *metav1.PartialObjectMetadata) map[string]any {
			if !slices.Contains(live.Finalizers, a.Finalizer) {
				return nil
			}
			return map[string]any{"finalizers": slices.DeleteFunc(live.Finalizers, func(f string) bool { return f == a.Finalizer })}
		})
	case Wake:
		for _, uid := range a.UIDs {
			c.loop.Add(uid)
		}
	}
	return nil
}

func (c *Controller) editOwners(ctx context.Context, v *vertex, f func([]metav1.OwnerReference) []metav1.OwnerReference) error {
	return c.edit(ctx, v, func(live *metav1.PartialObjectMetadata) map[string]any {
		if len(live.OwnerReferences) == 0 {
			return nil
		}
		return map[string]any{"ownerReferences": f(live.OwnerReferences)}
	})
}

// edit changes an object's metadata as it is now: read, change, and write only if nobody else wrote meanwhile. A
// change of nil needs no write; an object that is gone, or another of its name, needs none either.
func (c *Controller) edit(ctx context.Context, v *vertex, change func(*metav1.PartialObjectMetadata) map[string]any) error {
	api := c.api(v.kind, v.namespace)
	live, err := api.Get(ctx, v.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && live.UID != v.uid) {
		return nil
	}
	if err != nil {
		return err
	}
	fields := change(live)
	if fields == nil {
		return nil
	}
	fields["uid"], fields["resourceVersion"] = live.UID, live.ResourceVersion
	raw, err := json.Marshal(map[string]any{"metadata": fields})
	if err != nil {
		return fmt.Errorf("encode a patch: %w", err)
	}
	_, err = api.Patch(ctx, v.name, types.MergePatchType, raw, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
