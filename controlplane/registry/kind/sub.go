package kind

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Sub is a subresource that reads and updates the whole object of its kind under a strategy of its own, such as /status,
// /finalize or /ephemeralcontainers. It never creates.
type Sub struct {
	store  *genericregistry.Store
	resets rest.ResetFieldsStrategy
}

// Sub makes a subresource of the kind stored in store.
func (k Kind[T]) Sub(env Env, store *genericregistry.Store, s Strategy[T]) *Sub {
	adapted := k.adapt(env, s)
	copied := *store
	copied.CreateStrategy = nil
	copied.UpdateStrategy = adapted
	copied.ResetFieldsStrategy = adapted
	return &Sub{store: &copied, resets: adapted}
}

// New implements rest.Storage.
func (s *Sub) New() runtime.Object { return s.store.New() }

// Destroy does nothing: the connection belongs to the kind's main storage.
func (s *Sub) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (s *Sub) NamespaceScoped() bool { return s.store.UpdateStrategy.NamespaceScoped() }

// Get implements rest.Getter, which patches need.
func (s *Sub) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return s.store.Get(ctx, name, options)
}

// Update implements rest.Updater.
func (s *Sub) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, _ bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return s.store.Update(ctx, name, info, create, update, false, options)
}

// GetResetFields implements rest.ResetFieldsStrategy.
func (s *Sub) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return s.resets.GetResetFields()
}

// ConvertToTable implements rest.TableConvertor.
func (s *Sub) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return s.store.ConvertToTable(ctx, obj, options)
}
