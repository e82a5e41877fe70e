package core

import (
	"context"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/registry/rest"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

var (
	_ rest.Lister               = &NamespaceREST{}
	_ rest.Watcher              = &NamespaceREST{}
	_ rest.CreaterUpdater       = &NamespaceREST{}
	_ rest.GracefulDeleter      = &NamespaceREST{}
	_ rest.ShortNamesProvider   = &NamespaceREST{}
	_ rest.ResetFieldsStrategy  = &NamespaceREST{}
	_ rest.StorageWithReadiness = &NamespaceREST{}
)

// New implements rest.Storage.
func (r *NamespaceREST) New() runtime.Object { return r.store.New() }

// Destroy implements rest.Storage.
func (r *NamespaceREST) Destroy() { r.store.Destroy() }

// ReadinessCheck implements rest.StorageWithReadiness.
func (r *NamespaceREST) ReadinessCheck() error { return r.store.ReadinessCheck() }

// NamespaceScoped implements rest.Scoper.
func (r *NamespaceREST) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider.
func (r *NamespaceREST) GetSingularName() string { return r.store.GetSingularName() }

// ShortNames implements rest.ShortNamesProvider.
func (r *NamespaceREST) ShortNames() []string { return r.store.ShortNames() }

// StorageVersion implements rest.StorageVersionProvider.
func (r *NamespaceREST) StorageVersion() runtime.GroupVersioner { return r.store.StorageVersion() }

// GetResetFields implements rest.ResetFieldsStrategy.
func (r *NamespaceREST) GetResetFields() map[fieldpath.APIVersion]*fieldpath.Set {
	return r.store.GetResetFields()
}

// Get implements rest.Getter.
func (r *NamespaceREST) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	return r.store.Get(ctx, name, options)
}

// NewList implements rest.Lister.
func (r *NamespaceREST) NewList() runtime.Object { return r.store.NewList() }

// List implements rest.Lister.
func (r *NamespaceREST) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.store.List(ctx, options)
}

// Watch implements rest.Watcher.
func (r *NamespaceREST) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	return r.store.Watch(ctx, options)
}

// ConvertToTable implements rest.TableConvertor.
func (r *NamespaceREST) ConvertToTable(ctx context.Context, obj, options runtime.Object) (*metav1.Table, error) {
	return r.store.ConvertToTable(ctx, obj, options)
}

// Create implements rest.Creater.
func (r *NamespaceREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	return r.store.Create(ctx, obj, validate, options)
}

// Update implements rest.Updater.
func (r *NamespaceREST) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, allowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	return r.store.Update(ctx, name, info, create, update, allowCreate, options)
}
