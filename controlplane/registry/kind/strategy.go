// Package kind turns a declarative description of an API kind into REST storage on the generic registry.
//
// A kind differs from its neighbours in a handful of pure functions: what it looks like when new, which fields an update
// may not touch, what is valid. Those functions are the fields of Strategy and Kind; everything that is the same for all
// kinds (type assertions, managed-field resets, status subresources, short names) is here, once.
//
// The package knows no kind. It owns no connection: storage comes from the RESTOptionsGetter it is handed.
package kind

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage/names"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Object is a served API object, such as *v1.Pod.
type Object interface {
	runtime.Object
	metav1.Object
}

// Strategy says how one kind, or one subresource of it, is written. All functions are optional and may change obj, never
// old.
type Strategy[T Object] struct {
	// Create prepares a new object before validation: status cleared, generation set.
	Create func(ctx context.Context, obj T)
	// Update prepares an update before validation: fields that this endpoint does not own are taken from old.
	Update func(ctx context.Context, obj, old T)
	// Validate judges a new object.
	Validate func(obj T) field.ErrorList
	// ValidateUpdate judges an update; it is complete, Validate is not called for updates.
	ValidateUpdate func(obj, old T) field.ErrorList
	// ValidateIn and ValidateUpdateIn replace them where the rules depend on the request.
	ValidateIn       func(ctx context.Context, obj T) field.ErrorList
	ValidateUpdateIn func(ctx context.Context, obj, old T) field.ErrorList
	// Warn returns what the client should hear about a valid object; old is nil on create.
	Warn func(obj, old T) []string
	// CreateOnUpdate lets PUT create.
	CreateOnUpdate bool
	// Conditional refuses updates that name no resourceVersion.
	Conditional bool
	// Reset lists the fields (dotted paths from the root) that Create and Update overwrite, so that server-side apply
	// does not record ownership of them.
	Reset []string
	// Graceful sets the grace period of a deletion and returns true when the object is to be deleted gracefully.
	Graceful func(ctx context.Context, obj T, options *metav1.DeleteOptions) bool
	// Collection is the default garbage collection policy; empty means background deletion of dependents.
	Collection rest.GarbageCollectionPolicy
}

// strategy adapts Strategy to the interfaces of the generic registry.
type strategy[T Object] struct {
	Strategy[T]
	runtime.ObjectTyper
	names.NameGenerator
	namespaced bool
	versions   []string
}

// graceful adds the method whose presence alone changes how the registry deletes.
type graceful[T Object] struct{ *strategy[T] }

func (s graceful[T]) CheckGracefulDelete(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) bool {
	return s.Graceful(ctx, obj.(T), options)
}

func (s *strategy[T]) forDelete() rest.RESTDeleteStrategy {
	if s.Graceful == nil {
		return s
	}
	return graceful[T]{s}
}

func (s *strategy[T]) NamespaceScoped() bool                         { return s.namespaced }
func (s *strategy[T]) Canonicalize(runtime.Object)                   {}
func (s *strategy[T]) AllowCreateOnUpdate(context.Context) bool      { return s.CreateOnUpdate }
func (s *strategy[T]) AllowUnconditionalUpdate(context.Context) bool { return !s.Conditional }

func (s *strategy[T]) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	if s.Strategy.Create != nil {
		s.Strategy.Create(ctx, obj.(T))
	}
}

func (s *strategy[T]) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	switch {
	case s.ValidateIn != nil:
		return s.ValidateIn(ctx, obj.(T))
	case s.Strategy.Validate != nil:
		return s.Strategy.Validate(obj.(T))
	}
	return nil
}

func (s *strategy[T]) WarningsOnCreate(_ context.Context, obj runtime.Object) []string {
	if s.Warn == nil {
		return nil
	}
	var none T
	return s.Warn(obj.(T), none)
}

func (s *strategy[T]) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	if s.Strategy.Update != nil {
		s.Strategy.Update(ctx, obj.(T), old.(T))
	}
}

func (s *strategy[T]) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	switch {
	case s.ValidateUpdateIn != nil:
		return s.ValidateUpdateIn(ctx, obj.(T), old.(T))
	case s.Strategy.ValidateUpdate != nil:
		return s.Strategy.ValidateUpdate(obj.(T), old.(T))
	}
	return nil
}

func (s *strategy[T]) WarningsOnUpdate(_ context.Context, obj, old runtime.Object) []string {
	if s.Warn == nil {
		return nil
	}
	return s.Warn(obj.(T), old.(T))
}

func (s *strategy[T]) DefaultGarbageCollectionPolicy(context.Context) rest.GarbageCollectionPolicy {
	if s.Collection == "" {
		return rest.DeleteDependents
	}
	return s.Collection
}

// GetResetFields implements rest.ResetFieldsStrategy for every version the kind is served in.
func (s *strategy[T]) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	if len(s.Reset) == 0 {
		return nil
	}
	set := fieldpath.NewSet()
	for _, path := range s.Reset {
		set.Insert(parsePath(path))
	}
	out := map[fieldpath.APIVersion]*fieldpath.Set{}
	for _, v := range s.versions {
		out[fieldpath.APIVersion(v)] = set
	}
	return out
}
