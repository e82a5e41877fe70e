package apiserver

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"coracle/controlplane/etcd"
)

// direct makes storage that calls the etcd of this process. The library's own factory, which external endpoints use, opens a
// gRPC connection for each resource: with those of 50 resources an idle control plane is 10 MB larger, and each write is
// encoded and decoded once more.
type direct struct {
	client func() *etcd.Client
	// compactor is started with the first storage and stopped with the last.
	compactor *sharedCompactor
}

func newDirect(client func() *etcd.Client) *direct {
	return &direct{client: client, compactor: &sharedCompactor{client: client}}
}

// wrap has the resources of a getter stored by d. Those named as uncached have no watch cache.
func (d *direct) wrap(getter generic.RESTOptionsGetter, uncached ...schema.GroupResource) generic.RESTOptionsGetter {
	return &directGetter{RESTOptionsGetter: getter, direct: d, uncached: sets.New(uncached...)}
}

type directGetter struct {
	generic.RESTOptionsGetter
	direct   *direct
	uncached sets.Set[schema.GroupResource]
}

// GetRESTOptions implements generic.RESTOptionsGetter.
func (g *directGetter) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	options, err := g.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil {
		return options, err
	}
	options.Decorator = g.direct.cached
	if g.uncached.Has(resource) {
		options.Decorator = g.direct.plain
	}
	return options, nil
}

// plain implements generic.StorageDecorator without a watch cache.
func (d *direct) plain(config *storagebackend.ConfigForResource, resourcePrefix string, _ func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, _ storage.AttrFunc, _ storage.IndexerFuncs, _ *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	return d.store(config, resourcePrefix, newFunc, newListFunc)
}

// cached implements generic.StorageDecorator with a watch cache.
func (d *direct) cached(config *storagebackend.ConfigForResource, resourcePrefix string, key func(runtime.Object) (string, error),
	newFunc, newListFunc func() runtime.Object, attrs storage.AttrFunc, triggers storage.IndexerFuncs, indexers *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	store, closeStore, err := d.store(config, resourcePrefix, newFunc, newListFunc)
	if err != nil {
		return nil, nil, err
	}
	c, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage: store, Versioner: storage.APIObjectVersioner{}, GroupResource: config.GroupResource,
		EventsHistoryWindow: config.EventsHistoryWindow, ResourcePrefix: resourcePrefix, KeyFunc: key,
		NewFunc: newFunc, NewListFunc: newListFunc, GetAttrsFunc: attrs, IndexerFuncs: triggers, Indexers: indexers, Codec: config.Codec,
	})
	if err != nil {
		closeStore()
		return nil, nil, fmt.Errorf("watch cache of %s: %w", config.GroupResource, err)
	}
	delegator := cacher.NewCacheDelegator(c, store)
	// Subresources share the storage and each of them closes it.
	return delegator, sync.OnceFunc(func() {
		delegator.Stop()
		c.Stop()
		closeStore()
	}), nil
}

// store does for one resource what the library's factory does, with another client.
func (d *direct) store(config *storagebackend.ConfigForResource, resourcePrefix string, newFunc, newListFunc func() runtime.Object) (storage.Interface, factory.DestroyFunc, error) {
	transformer := config.Transformer
	if transformer == nil {
		transformer = identity.NewEncryptCheckTransformer()
	}
	versioner := storage.APIObjectVersioner{}
	decoder := etcd3.NewDefaultDecoder(config.Codec, versioner)
	// Objects that cannot be decoded may be deleted on request.
	unsafeDelete := utilfeature.DefaultFeatureGate.Enabled(features.AllowUnsafeMalformedObjectDeletion)
	if unsafeDelete {
		transformer = etcd3.WithCorruptObjErrorHandlingTransformer(transformer)
		decoder = etcd3.WithCorruptObjErrorHandlingDecoder(decoder)
	}
	compactor, release := d.compactor.use(config)
	client := d.client()
	client.KV = etcd3.NewETCDLatencyTracker(client.KV)
	store, err := etcd3.New(client, compactor, config.Codec, newFunc, newListFunc, config.Prefix, resourcePrefix,
		config.GroupResource, transformer, config.LeaseManagerConfig, decoder, versioner)
	if err != nil {
		release()
		_ = client.Close() // the first error is the one to tell
		return nil, nil, fmt.Errorf("storage of %s: %w", config.GroupResource, err)
	}
	closeStore := sync.OnceFunc(func() {
		release()
		store.Close()
		_ = client.Close() // returns that its context is cancelled
	})
	if unsafeDelete {
		return etcd3.NewStoreWithUnsafeCorruptObjectDeletion(store, config.GroupResource), closeStore, nil
	}
	return store, closeStore, nil
}

// sharedCompactor drops old revisions from etcd as long as some storage is in use: one for all resources.
type sharedCompactor struct {
	client func() *etcd.Client

	mu   sync.Mutex
	uses int
	now  etcd3.Compactor
	stop func()
}

func (s *sharedCompactor) use(config *storagebackend.ConfigForResource) (c etcd3.Compactor, release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.uses == 0 {
		client := s.client()
		compactor := etcd3.NewCompactor(client.Client, config.CompactionInterval, clock.RealClock{}, nil)
		s.now, s.stop = compactor, func() {
			compactor.Stop()
			_ = client.Close() // returns that its context is cancelled
		}
	}
	s.uses++
	return s.now, sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.uses--; s.uses == 0 {
			s.stop()
		}
	})
}
