package kind

import (
	"context"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"coracle/controlplane/api/autoscaling"
)

// Scalable tells how a kind is scaled: spec.replicas is the number wanted.
type Scalable[T Object] struct {
	// Scale is the object's spec and status as a Scale; its metadata is filled in.
	Scale func(obj T) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus, error)
	// Set changes the number wanted.
	Set func(obj T, replicas int32)
}

// ScaleREST serves the /scale subresource of a kind.
type ScaleREST[T Object] struct {
	store    *genericregistry.Store
	scalable Scalable[T]
	version  schema.GroupVersion
}

// NewScale makes the /scale of the kind in main, served as version.
func NewScale[T Object](main *REST, version schema.GroupVersion, s Scalable[T]) *ScaleREST[T] {
	return &ScaleREST[T]{store: main.Store, scalable: s, version: version}
}

// GroupVersionKind implements rest.GroupVersionKindProvider: a Scale is of the autoscaling group wherever it is served.
func (r *ScaleREST[T]) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return autoscalingv1.SchemeGroupVersion.WithKind("Scale")
}

// New implements rest.Storage.
func (r *ScaleREST[T]) New() runtime.Object { return &autoscalingv1.Scale{} }

// Destroy does nothing: the connection belongs to the kind's main storage.
func (r *ScaleREST[T]) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (r *ScaleREST[T]) NamespaceScoped() bool { return true }

// ConvertToTable implements rest.TableConvertor.
func (r *ScaleREST[T]) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return r.store.ConvertToTable(ctx, obj, options)
}

// Get implements rest.Getter.
func (r *ScaleREST[T]) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	obj, err := r.store.Get(ctx, name, options)
	if err != nil {
		return nil, apierrors.NewNotFound(r.resource(), name)
	}
	return r.scaleOf(obj)
}

// Update implements rest.Updater.
func (r *ScaleREST[T]) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	obj, _, err := r.store.Update(ctx, name, &scaleUpdate[T]{rest: r, name: name, info: info}, r.onCreate(create), r.onUpdate(update), false, options)
	if err != nil {
		return nil, false, err
	}
	scale, err := r.scaleOf(obj)
	return scale, false, err
}

func (r *ScaleREST[T]) resource() schema.GroupResource {
	return schema.GroupResource{Group: r.version.Group, Resource: r.store.DefaultQualifiedResource.Resource + "/scale"}
}

func (r *ScaleREST[T]) scaleOf(obj runtime.Object) (*autoscalingv1.Scale, error) {
	t, ok := obj.(T)
	if !ok {
		return nil, fmt.Errorf("scale of %s: got %T", r.store.DefaultQualifiedResource, obj)
	}
	spec, status, err := r.scalable.Scale(t)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: t.GetName(), Namespace: t.GetNamespace(), UID: t.GetUID(),
			ResourceVersion: t.GetResourceVersion(), CreationTimestamp: t.GetCreationTimestamp(),
		},
		Spec: spec, Status: status,
	}, nil
}

// onCreate and onUpdate show admission a Scale, because that is what the client wrote.
func (r *ScaleREST[T]) onCreate(f rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj runtime.Object) error {
		scale, err := r.scaleOf(obj)
		if err != nil {
			return err
		}
		return f(ctx, scale)
	}
}

func (r *ScaleREST[T]) onUpdate(f rest.ValidateObjectUpdateFunc) rest.ValidateObjectUpdateFunc {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, obj, old runtime.Object) error {
		scale, err := r.scaleOf(obj)
		if err != nil {
			return err
		}
		oldScale, err := r.scaleOf(old)
		if err != nil {
			return err
		}
		return f(ctx, scale, oldScale)
	}
}

// scaleUpdate turns an update of a Scale into one of the object behind it.
type scaleUpdate[T Object] struct {
	rest *ScaleREST[T]
	name string
	info rest.UpdatedObjectInfo
}

// Preconditions implements rest.UpdatedObjectInfo.
func (u *scaleUpdate[T]) Preconditions() *metav1.Preconditions { return u.info.Preconditions() }

// UpdatedObject implements rest.UpdatedObjectInfo.
func (u *scaleUpdate[T]) UpdatedObject(ctx context.Context, old runtime.Object) (runtime.Object, error) {
	obj, ok := old.DeepCopyObject().(T)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("scale of %s: got %T", u.rest.store.DefaultQualifiedResource, old))
	}
	if obj.GetResourceVersion() == "" {
		return nil, apierrors.NewNotFound(u.rest.resource(), u.name)
	}
	handler := managedfields.NewScaleHandler(obj.GetManagedFields(), u.rest.version, managedfields.ResourcePathMappings{
		u.rest.version.String(): fieldpath.MakePathOrDie("spec", "replicas"),
	})
	oldScale, err := u.rest.scaleOf(obj)
	if err != nil {
		return nil, err
	}
	if oldScale.ManagedFields, err = handler.ToSubresource(); err != nil {
		return nil, err
	}
	updated, err := u.info.UpdatedObject(ctx, oldScale)
	if err != nil {
		return nil, err
	}
	scale, ok := updated.(*autoscalingv1.Scale)
	if !ok || scale == nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("want a Scale, got %T", updated))
	}
	if errs := autoscaling.ValidateScale(scale); len(errs) > 0 {
		return nil, apierrors.NewInvalid(autoscalingv1.SchemeGroupVersion.WithKind("Scale").GroupKind(), u.name, errs)
	}
	if scale.UID != "" && scale.UID != obj.GetUID() {
		return nil, apierrors.NewConflict(u.rest.resource(), u.name,
			fmt.Errorf("the UID in the request (%s) is not that of the object (%s); it may have been deleted and made again", scale.UID, obj.GetUID()))
	}
	u.rest.scalable.Set(obj, scale.Spec.Replicas)
	obj.SetResourceVersion(scale.ResourceVersion)
	entries, err := handler.ToParent(scale.ManagedFields)
	if err != nil {
		return nil, err
	}
	obj.SetManagedFields(entries)
	return obj, nil
}
