package apiserver

import (
	"fmt"
	"net/url"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	extensionoptions "k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	extensionopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/util/notfoundhandler"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"coracle/controlplane/api"
)

// uncachedDefinitions: definitions are large, few and read by the one informer of this process; a watch cache would hold them
// a second time.
var uncachedDefinitions = schema.GroupResource{Group: apiextensionsv1.GroupName, Resource: "customresourcedefinitions"}

// extensions is the server behind the one of the built-in kinds.
type extensions struct {
	server *extensionserver.CustomResourceDefinitions
	config *genericapiserver.Config
}

// newExtensions builds the server of CustomResourceDefinitions and of the resources they define. c is the configuration of the
// server in front of it, not completed; store is where that one keeps its objects. Layout in etcd, as kube-apiserver has it:
//
//	/registry/apiextensions.k8s.io/customresourcedefinitions/NAME    JSON
//	/registry/GROUP/RESOURCE/[NAMESPACE/]NAME                        JSON
func newExtensions(cfg Config, c *genericapiserver.Config, store *place) (*extensions, error) {
	own := *c
	own.PostStartHooks = map[string]genericapiserver.PostStartHookConfigEntry{}
	own.LoopbackClientConfig = rest.CopyConfig(c.LoopbackClientConfig)
	own.LoopbackClientConfig.ContentType = runtime.ContentTypeProtobuf
	own.MergedResourceConfig = extensionserver.DefaultAPIResourceConfigSource()
	setDefinitions(&own, openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(extensionopenapi.GetOpenAPIDefinitions), extensionserver.Scheme)

	at := store.EtcdOptions
	at.StorageConfig.Codec = extensionserver.Codecs.LegacyCodec(apiextensionsv1.SchemeGroupVersion)
	at.WatchCacheSizes = withoutCache(uncachedDefinitions)
	own.RESTOptionsGetter = store.wrap(at.CreateRESTOptionsGetter(&options.SimpleStorageFactory{StorageConfig: at.StorageConfig}, nil), uncachedDefinitions)

	services, err := newServiceResolver(cfg.Informers)
	if err != nil {
		return nil, err
	}
	replicas := 1
	if cfg.Replicated {
		replicas = 2
	}
	config := extensionserver.Config{
		GenericConfig: &genericapiserver.RecommendedConfig{Config: own, SharedInformerFactory: cfg.Informers},
		ExtraConfig: extensionserver.ExtraConfig{
			CRDRESTOptionsGetter: store.wrap(extensionoptions.NewCRDRESTOptionsGetter(store.EtcdOptions, nil, nil)),
			MasterCount:          replicas,
			ServiceResolver:      services,
			AuthResolverWrapper:  webhook.NewDefaultAuthenticationInfoResolverWrapper(nil, nil, own.LoopbackClientConfig, own.TracerProvider),
		},
	}
	// Nobody answers behind this server. Until it has read the definitions it cannot know what does not exist, and says so.
	last := genericapiserver.NewEmptyDelegateWithCustomHandler(
		notfoundhandler.New(api.Codecs, genericapifilters.NoMuxAndDiscoveryIncompleteKey))
	server, err := config.Complete().New(last)
	if err != nil {
		return nil, fmt.Errorf("assemble API server of custom resources: %w", err)
	}
	if err := server.Informers.Apiextensions().V1().CustomResourceDefinitions().Informer().SetTransform(withoutManagedFields); err != nil {
		return nil, fmt.Errorf("watch definitions: %w", err)
	}
	return &extensions{server: server, config: &own}, nil
}

// withoutManagedFields drops what nobody in this process reads; updates without them leave those stored as they are.
func withoutManagedFields(obj any) (any, error) {
	if m, err := apimeta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

// established lists the definitions whose resources are served.
func (e *extensions) established() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	all, err := e.server.Informers.Apiextensions().V1().CustomResourceDefinitions().Lister().List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list definitions: %w", err)
	}
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, crd := range all {
		if apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) {
			out = append(out, crd)
		}
	}
	return out, nil
}

// onChange calls f, which must not wait, after each change of a definition.
func (e *extensions) onChange(f func()) error {
	_, err := e.server.Informers.Apiextensions().V1().CustomResourceDefinitions().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { f() },
		UpdateFunc: func(before, after any) {
			// The informer repeats what it knows every few minutes.
			b, bErr := apimeta.Accessor(before)
			a, aErr := apimeta.Accessor(after)
			if bErr != nil || aErr != nil || a.GetResourceVersion() != b.GetResourceVersion() {
				f()
			}
		},
		DeleteFunc: func(any) { f() },
	})
	if err != nil {
		return fmt.Errorf("watch definitions: %w", err)
	}
	return nil
}

// serviceResolver finds the pod that answers for a Service which converts versions. It goes to an endpoint and not to the
// cluster IP, because nothing on a control-plane host need route those.
type serviceResolver struct {
	services corelisters.ServiceLister
	slices   proxy.EndpointSliceGetter
}

func newServiceResolver(f informers.SharedInformerFactory) (*serviceResolver, error) {
	slices, err := proxy.NewEndpointSliceListerGetter(f.Discovery().V1().EndpointSlices().Lister())
	if err != nil {
		return nil, fmt.Errorf("find endpoints: %w", err)
	}
	return &serviceResolver{services: f.Core().V1().Services().Lister(), slices: slices}, nil
}

// ResolveEndpoint implements webhook.ServiceResolver.
func (r *serviceResolver) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	return proxy.ResolveEndpoint(r.services, r.slices, namespace, name, port)
}
