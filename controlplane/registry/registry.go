// Package registry puts the storage of every served resource in its place in the API: which group and version, which
// path, which subresources. What a resource is and how it is written is said in the packages below it.
package registry

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"coracle/controlplane/api"
	"coracle/controlplane/registry/core"
	"coracle/controlplane/registry/core/pod"
	"coracle/controlplane/registry/kind"
)

// Config is what the registry is built from.
type Config struct {
	Env kind.Env
	// Authorizer answers whether a user may do more than the request's own verb, such as bind a role.
	Authorizer authorizer.Authorizer
}

// Registry is the storage of all served resources.
type Registry struct {
	groups map[schema.GroupVersion]map[string]rest.Storage
}

// New builds all storage.
func New(cfg Config) (*Registry, error) {
	r := &Registry{groups: map[schema.GroupVersion]map[string]rest.Storage{}}
	if err := r.addCore(cfg); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Registry) add(gv schema.GroupVersion, path string, storage rest.Storage) {
	if r.groups[gv] == nil {
		r.groups[gv] = map[string]rest.Storage{}
	}
	r.groups[gv][path] = storage
}

// place builds a kind and puts it, and its status, under its name.
func place[T kind.Object](r *Registry, cfg Config, gv schema.GroupVersion, k kind.Kind[T]) (*kind.REST, error) {
	main, status, err := k.Build(cfg.Env)
	if err != nil {
		return nil, err
	}
	r.add(gv, k.Resource, main)
	if status != nil {
		r.add(gv, k.Resource+"/status", status)
	}
	return main, nil
}

// GroupInfos is everything in the form the generic API server installs: the core group, and the others by name.
func (r *Registry) GroupInfos() (*genericapiserver.APIGroupInfo, []*genericapiserver.APIGroupInfo) {
	var legacy *genericapiserver.APIGroupInfo
	var others []*genericapiserver.APIGroupInfo
	for _, gv := range sorted(r.groups) {
		info := genericapiserver.NewDefaultAPIGroupInfo(gv.Group, api.Scheme, api.ParameterCodec, api.Codecs)
		info.VersionedResourcesStorageMap[gv.Version] = r.groups[gv]
		if gv.Group == "" {
			legacy = &info
			continue
		}
		others = append(others, &info)
	}
	return legacy, others
}

func (r *Registry) addCore(cfg Config) error {
	v1 := schema.GroupVersion{Version: "v1"}
	ns, status, finalize, err := core.BuildNamespaces(cfg.Env)
	if err != nil {
		return err
	}
	r.add(v1, "namespaces", ns)
	r.add(v1, "namespaces/status", status)
	r.add(v1, "namespaces/finalize", finalize)
	pods, err := pod.Build(cfg.Env)
	if err != nil {
		return err
	}
	for path, storage := range pods.Map() {
		r.add(v1, path, storage)
	}
	return firstError(
		placed(place(r, cfg, v1, core.Nodes())),
		placed(place(r, cfg, v1, core.ConfigMaps())),
		placed(place(r, cfg, v1, core.Secrets())),
		placed(place(r, cfg, v1, core.ServiceAccounts())),
		placed(place(r, cfg, v1, core.PodTemplates())),
		placed(place(r, cfg, v1, core.Endpoints())),
		placed(place(r, cfg, v1, core.LimitRanges())),
		placed(place(r, cfg, v1, core.ResourceQuotas())),
	)
}
