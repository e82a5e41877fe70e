package core

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"

	"coracle/controlplane/api/core"
	"coracle/controlplane/registry/kind"
)

func namespaces() kind.Kind[*corev1.Namespace] {
	return kind.Kind[*corev1.Namespace]{
		Versions: versions, Resource: "namespaces", Singular: "namespace", Short: []string{"ns"}, ClusterScoped: true,
		New:     func() *corev1.Namespace { return &corev1.Namespace{} },
		NewList: listOf[corev1.NamespaceList](),
		Fields:  func(n *corev1.Namespace) fields.Set { return fields.Set{"status.phase": string(n.Status.Phase)} },
		Main: kind.Strategy[*corev1.Namespace]{
			Create: newNamespace,
			Update: func(_ context.Context, obj, old *corev1.Namespace) {
				obj.Spec.Finalizers, obj.Status = old.Spec.Finalizers, old.Status
				nameLabel(obj)
			},
			Validate: core.ValidateNamespace, ValidateUpdate: core.ValidateNamespaceUpdate,
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*corev1.Namespace]{
			Update: func(_ context.Context, obj, old *corev1.Namespace) {
				obj.Spec = old.Spec
				nameLabel(obj)
			},
			ValidateUpdate: core.ValidateNamespaceStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

// finalize is the strategy of /finalize, which alone may change spec.finalizers.
func finalize() kind.Strategy[*corev1.Namespace] {
	return kind.Strategy[*corev1.Namespace]{
		Update: func(_ context.Context, obj, old *corev1.Namespace) {
			obj.Status = old.Status
			nameLabel(obj)
		},
		ValidateUpdate: core.ValidateNamespaceFinalizeUpdate,
		Reset:          []string{"status"},
	}
}

// newNamespace makes a namespace Active and guarded by the finalizer that its controller takes away once it is empty.
func newNamespace(_ context.Context, obj *corev1.Namespace) {
	obj.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(obj.Spec.Finalizers, corev1.FinalizerKubernetes) {
		obj.Spec.Finalizers = append(obj.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
	nameLabel(obj)
}

// nameLabel keeps the label by which selectors find a namespace by name.
func nameLabel(obj *corev1.Namespace) {
	if obj.Name != "" {
		obj.Labels = withLabel(obj.Labels, corev1.LabelMetadataName, obj.Name)
	}
}

// NamespaceREST serves namespaces. Deletion only marks a namespace; it goes when spec.finalizers and
// metadata.finalizers are both empty. Collections of namespaces cannot be deleted, so the store is not embedded.
type NamespaceREST struct{ store *kind.REST }

// BuildNamespaces makes the storage of namespaces, /status and /finalize.
func BuildNamespaces(env kind.Env) (main *NamespaceREST, status, finalizers *kind.Sub, err error) {
	k := namespaces()
	store, _, err := k.Build(env)
	if err != nil {
		return nil, nil, nil, err
	}
	store.ReturnDeletedObject = true
	store.ShouldDeleteDuringUpdate = func(ctx context.Context, key string, obj, existing runtime.Object) bool {
		ns, ok := obj.(*corev1.Namespace)
		return ok && len(ns.Spec.Finalizers) == 0 && genericregistry.ShouldDeleteDuringUpdate(ctx, key, obj, existing)
	}
	return &NamespaceREST{store}, k.Sub(env, store.Store, *k.Status), k.Sub(env, store.Store, finalize()), nil
}

// Delete marks the namespace Terminating, or removes it when nothing guards it any more.
func (r *NamespaceREST) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	found, err := r.store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, false, err
	}
	ns := found.(*corev1.Namespace)
	if options == nil {
		options = metav1.NewDeleteOptions(0)
	}
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	if options.Preconditions.UID == nil {
		options.Preconditions.UID = &ns.UID
	}
	if !ns.DeletionTimestamp.IsZero() {
		if len(ns.Spec.Finalizers) == 0 && len(ns.Finalizers) == 0 {
			return r.store.Delete(ctx, name, validate, options)
		}
		return ns, false, nil
	}
	return r.terminate(ctx, name, validate, options)
}

func (r *NamespaceREST) terminate(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	key, err := r.store.KeyFunc(ctx, name)
	if err != nil {
		return nil, false, err
	}
	preconditions := storage.Preconditions{UID: options.Preconditions.UID, ResourceVersion: options.Preconditions.ResourceVersion}
	out := &corev1.Namespace{}
	err = r.store.Storage.GuaranteedUpdate(ctx, key, out, false, &preconditions, storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
		ns := existing.(*corev1.Namespace)
		if validate != nil {
			if err := validate(ctx, ns); err != nil {
				return nil, err
			}
		}
		if ns.DeletionTimestamp.IsZero() {
			now := metav1.Now()
			ns.DeletionTimestamp = &now
		}
		ns.Status.Phase = corev1.NamespaceTerminating
		ns.Finalizers = propagation(ns.Finalizers, options)
		return ns, nil
	}), dryrun.IsDryRun(options.DryRun), nil)
	if err != nil {
		return nil, false, storeerr.InterpretUpdateError(err, corev1.Resource("namespaces"), name)
	}
	return out, false, nil
}

// propagation sets the finalizer for the wanted garbage collection policy and takes away the other one.
func propagation(finalizers []string, options *metav1.DeleteOptions) []string {
	orphan := slices.Contains(finalizers, metav1.FinalizerOrphanDependents)
	foreground := slices.Contains(finalizers, metav1.FinalizerDeleteDependents)
	if options.OrphanDependents != nil { //nolint:staticcheck // clients of old versions send it
		orphan, foreground = *options.OrphanDependents, false //nolint:staticcheck // as above
	} else if options.PropagationPolicy != nil {
		orphan = *options.PropagationPolicy == metav1.DeletePropagationOrphan
		foreground = *options.PropagationPolicy == metav1.DeletePropagationForeground
	}
	out := slices.DeleteFunc(slices.Clone(finalizers), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	if orphan {
		out = append(out, metav1.FinalizerOrphanDependents)
	}
	if foreground {
		out = append(out, metav1.FinalizerDeleteDependents)
	}
	return out
}
