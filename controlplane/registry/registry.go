// Package registry puts the storage of every served resource in its place in the API: which group and version, which
// path, which subresources. What a resource is and how it is written is said in the packages below it.
package registry

import (
	"context"
	"log/slog"
	"net/netip"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"coracle/controlplane/api"
	"coracle/controlplane/auth/serviceaccount"
	"coracle/controlplane/registry/coordination"
	"coracle/controlplane/registry/core/service"
	"coracle/controlplane/registry/kind"
	"coracle/controlplane/registry/rbac"
	"coracle/internal/usage"
)

// Config is what the registry is built from. All fields are required unless said otherwise.
type Config struct {
	Env kind.Env
	// Authenticator and Audiences answer token reviews, Authorizer and RuleResolver access reviews.
	Authenticator authenticator.Request
	Audiences     authenticator.Audiences
	Authorizer    authorizer.Authorizer
	RuleResolver  authorizer.RuleResolver
	// Guard keeps users from granting more than they hold.
	Guard rbac.Guard
	// Issuer signs service-account tokens.
	Issuer *serviceaccount.Issuer
	// ServiceCIDR is the range of cluster IPs, NodePorts that of node ports.
	ServiceCIDR netip.Prefix
	NodePorts   service.PortRange
	// Sessions tells which nodes are alive, for their leases. May be nil.
	Sessions coordination.Sessions
	// Streaming makes the subresources that reach into nodes (exec, log, proxy and the like), keyed by path.
	Streaming func(pods, nodes, services rest.Getter) map[string]rest.Storage
	// Usage asks a node what it and its pods use now. Nil: metrics.k8s.io is not served.
	Usage func(ctx context.Context, node string) (*usage.Node, error)
	Log   *slog.Logger
}

// Registry is the storage of all served resources.
type Registry struct {
	groups   map[schema.GroupVersion]map[string]rest.Storage
	services *service.Storage
}

// New builds all storage.
func New(cfg Config) (*Registry, error) {
	r := &Registry{groups: map[schema.GroupVersion]map[string]rest.Storage{}}
	for _, add := range []func(Config) error{r.addCore, r.addGroups, r.addRBAC, r.addReviews} {
		if err := add(cfg); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Run does the background work that belongs to the storage, until ctx ends. It needs the API to be served.
func (r *Registry) Run(ctx context.Context) error { return r.services.Repair(ctx) }

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

// placeScaled does the same for a kind that can be scaled.
func placeScaled[T kind.Object](r *Registry, cfg Config, gv schema.GroupVersion, k kind.Kind[T], s kind.Scalable[T]) error {
	main, err := place(r, cfg, gv, k)
	if err != nil {
		return err
	}
	r.add(gv, k.Resource+"/scale", kind.NewScale(main, gv, s))
	return nil
}
