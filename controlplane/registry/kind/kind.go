package kind

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Kind describes a stored kind.
type Kind[T Object] struct {
	// Group is the API group of storage; Versions are the group/versions it is served in, for managed fields.
	Group    string
	Versions []string
	// Resource is the plural, Singular the singular name in URLs.
	Resource, Singular string
	// Short and Categories are names kubectl accepts, such as "po" and "all".
	Short, Categories []string
	// ClusterScoped is true for kinds outside namespaces.
	ClusterScoped bool
	New           func() T
	NewList       func() runtime.Object
	Main          Strategy[T]
	// Status is the strategy of the /status subresource; nil when there is none.
	Status *Strategy[T]
	// Fields returns the selectable fields beyond metadata.name and metadata.namespace.
	Fields func(obj T) fields.Set
	// Indexed names those of Fields that lists and watches select by so often that the watch cache indexes them.
	Indexed []string
	// TTL is how many seconds an object is kept after its last write; zero is for ever.
	TTL uint64
}

// Env is what all kinds of a server share.
type Env struct {
	// Typer finds the kind of an object: the scheme.
	Typer runtime.ObjectTyper
	// RESTOptions gives each resource its storage.
	RESTOptions generic.RESTOptionsGetter
	// Table prints objects in columns.
	Table rest.TableConvertor
}

// REST is the storage of a kind, with the names that discovery tells.
type REST struct {
	*genericregistry.Store
	short, categories []string
}

// ShortNames implements rest.ShortNamesProvider.
func (r *REST) ShortNames() []string { return r.short }

// Categories implements rest.CategoriesProvider.
func (r *REST) Categories() []string { return r.categories }

// Build makes the kind's storage. The second result is the /status subresource, nil when the kind has none.
func (k Kind[T]) Build(env Env) (*REST, *Sub, error) {
	main := k.adapt(env, k.Main)
	store := &genericregistry.Store{
		NewFunc:                   func() runtime.Object { return k.New() },
		NewListFunc:               k.NewList,
		DefaultQualifiedResource:  schema.GroupResource{Group: k.Group, Resource: k.Resource},
		SingularQualifiedResource: schema.GroupResource{Group: k.Group, Resource: k.Singular},
		PredicateFunc:             k.predicate,
		CreateStrategy:            main,
		UpdateStrategy:            main,
		DeleteStrategy:            main.forDelete(),
		ResetFieldsStrategy:       main,
		TableConvertor:            env.Table,
	}
	if k.TTL > 0 {
		store.TTLFunc = func(runtime.Object, uint64, bool) (uint64, error) { return k.TTL, nil }
	}
	options := &generic.StoreOptions{RESTOptions: env.RESTOptions, AttrFunc: k.attrs}
	if len(k.Indexed) > 0 {
		options.TriggerFunc, options.Indexers = k.indexes()
	}
	if err := store.CompleteWithOptions(options); err != nil {
		return nil, nil, fmt.Errorf("storage of %s: %w", store.DefaultQualifiedResource, err)
	}
	rest := &REST{Store: store, short: k.Short, categories: k.Categories}
	if k.Status == nil {
		return rest, nil, nil
	}
	return rest, k.Sub(env, store, *k.Status), nil
}

func (k Kind[T]) adapt(env Env, s Strategy[T]) *strategy[T] {
	return &strategy[T]{
		Strategy: s, ObjectTyper: env.Typer, NameGenerator: names.SimpleNameGenerator,
		namespaced: !k.ClusterScoped, versions: k.Versions,
	}
}

func (k Kind[T]) selectable(obj T) fields.Set {
	set := fields.Set{}
	if k.Fields != nil {
		set = k.Fields(obj)
	}
	set["metadata.name"] = obj.GetName()
	if !k.ClusterScoped {
		set["metadata.namespace"] = obj.GetNamespace()
	}
	return set
}

func (k Kind[T]) attrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	t, ok := obj.(T)
	if !ok {
		return nil, nil, fmt.Errorf("select among %s: got %T", k.Resource, obj)
	}
	return labels.Set(t.GetLabels()), k.selectable(t), nil
}

func (k Kind[T]) predicate(label labels.Selector, field fields.Selector) storage.SelectionPredicate {
	return storage.SelectionPredicate{Label: label, Field: field, GetAttrs: k.attrs, IndexFields: k.Indexed}
}

// indexes gives the watch cache one index and one watch trigger for each indexed field.
func (k Kind[T]) indexes() (storage.IndexerFuncs, *cache.Indexers) {
	triggers, indexers := storage.IndexerFuncs{}, cache.Indexers{}
	for _, name := range k.Indexed {
		value := func(obj runtime.Object) string { return k.selectable(obj.(T))[name] }
		triggers[name] = value
		indexers[storage.FieldIndex(name)] = func(obj any) ([]string, error) {
			t, ok := obj.(T)
			if !ok {
				return nil, fmt.Errorf("index %s by %s: got %T", k.Resource, name, obj)
			}
			return []string{value(t)}, nil
		}
	}
	return triggers, &indexers
}

// parsePath turns "metadata.labels" into a field path.
func parsePath(path string) fieldpath.Path {
	var parts []any
	for _, p := range strings.Split(path, ".") {
		parts = append(parts, p)
	}
	return fieldpath.MakePathOrDie(parts...)
}
