// Package apiserver assembles the REST API on the generic API server: secure serving, authentication, authorisation,
// admission, storage, server-side apply, discovery, OpenAPI, health and metrics.
//
// It owns no kind and no policy: those come from controlplane/registry, auth and admission through Config. Two steps,
// because authenticators need a client and the client needs a port:
//
//	Listen → Serving (port, certificates, loopback client) → New → Server → Run
//
// Two generic servers answer one after the other: that of the kinds in controlplane/registry, and behind it, for what the
// first does not know, that of CustomResourceDefinitions and the resources they define (newExtensions). Discovery and the
// OpenAPI documents are made from both and change with every definition.
//
// Every write is bounded: bodies to 3 MB (413), requests to 60 s, requests in flight to 400 reading and 200 writing
// (429). Priority and fairness is off: it keeps 40 goroutines and a dozen objects in etcd to protect large clusters.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericapiserver "k8s.io/apiserver/pkg/server"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/client-go/informers"

	"coracle/controlplane/api"
	"coracle/controlplane/apiserver/loopback"
	"coracle/controlplane/registry"
	"coracle/controlplane/registry/kind"
)

// drainTimeout bounds how long connections may linger when the server stops.
const drainTimeout = 3 * time.Second

// Config is what New assembles. All fields are required unless said otherwise.
type Config struct {
	Serving *Serving
	Storage StorageConfig
	// Replicated is true where other control planes may serve the same storage: a new custom resource is then served only
	// after they had time to learn of it.
	Replicated bool
	// AdvertiseAddress is where clients are told to find the API.
	AdvertiseAddress net.IP
	// Informers are started with the server; readiness waits for them.
	Informers     informers.SharedInformerFactory
	Authenticator authenticator.Request
	// Audiences are accepted in tokens that name audiences.
	Audiences    authenticator.Audiences
	Authorizer   authorizer.Authorizer
	RuleResolver authorizer.RuleResolver
	// Admission may be nil.
	Admission admission.Interface
	// Registry is completed with the storage settings and handed to registry.New.
	Registry registry.Config
	Log      *slog.Logger
}

// Server is the assembled API.
type Server struct {
	generic  *genericapiserver.GenericAPIServer
	config   *genericapiserver.Config
	serving  *Serving
	registry *registry.Registry
}

// New builds the server. Nothing is served before Run.
func New(cfg Config) (*Server, error) {
	registerBuildInfo()
	c := genericConfig(cfg)
	store, err := applyStorage(c, cfg.Storage)
	if err != nil {
		return nil, err
	}
	applyOpenAPI(c)
	if cfg.Authenticator == nil || cfg.Authorizer == nil {
		return nil, errors.New("an API server without authenticator or authorizer would let everybody in")
	}
	extensions, err := newExtensions(cfg, c, store)
	if err != nil {
		return nil, err
	}
	c.EnableDiscovery = false // installDiscovery knows the groups of the extensions too
	completed := c.Complete(cfg.Informers)
	generic, err := completed.New("coracle", extensions.server.GenericAPIServer)
	if err != nil {
		return nil, fmt.Errorf("assemble API server: %w", err)
	}
	cfg.Registry.Env = kind.Env{Typer: api.Scheme, RESTOptions: c.RESTOptionsGetter, Table: cfg.Registry.Env.Table}
	// Completing the configuration put the loopback client's rights in front of both.
	cfg.Registry.Authenticator, cfg.Registry.Audiences = c.Authentication.Authenticator, cfg.Audiences
	cfg.Registry.Authorizer, cfg.Registry.RuleResolver = c.Authorization.Authorizer, cfg.RuleResolver
	reg, err := registry.New(cfg.Registry)
	if err != nil {
		return nil, err
	}
	legacy, groups := reg.GroupInfos()
	if err := generic.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, legacy); err != nil {
		return nil, fmt.Errorf("install API group v1: %w", err)
	}
	if err := generic.InstallAPIGroups(groups...); err != nil {
		return nil, fmt.Errorf("install API groups: %w", err)
	}
	installDiscovery(generic, c.DiscoveryAddresses, groups)
	if err := installOpenAPI(generic, c, extensions, cfg.Log); err != nil {
		return nil, err
	}
	generic.ShutdownTimeout = drainTimeout
	return &Server{generic: generic, config: c, serving: cfg.Serving, registry: reg}, nil
}

func genericConfig(cfg Config) *genericapiserver.Config {
	c := genericapiserver.NewConfig(api.Codecs)
	c.SecureServing = cfg.Serving.info
	c.LoopbackClientConfig = cfg.Serving.library
	c.EffectiveVersion = newEffectiveVersion()
	c.PublicAddress = cfg.AdvertiseAddress
	c.Authentication.Authenticator = cfg.Authenticator
	c.Authentication.APIAudiences = cfg.Audiences
	c.Authorization.Authorizer = cfg.Authorizer
	c.RuleResolver = cfg.RuleResolver
	c.AdmissionControl = cfg.Admission
	// One list of groups for both servers; each writes its own.
	c.AggregatedDiscoveryGroupManager = aggregated.NewResourceManager("apis")
	c.StorageObjectCountTracker = nil
	c.EnableProfiling = false
	c.LongRunningFunc = genericfilters.BasicLongRunningRequestCheck(
		sets.NewString("watch", "proxy"),
		sets.NewString("attach", "exec", "proxy", "log", "portforward"))
	// Watches are told to end at once when the server stops, and given this long; clients resume after the restart.
	c.ShutdownWatchTerminationGracePeriod = drainTimeout
	return c
}

// Handle adds a handler outside the resource paths, behind authentication and authorisation.
func (s *Server) Handle(path string, h http.Handler) {
	s.generic.Handler.NonGoRestfulMux.Handle(path, h)
}

// Registry gives the background work that belongs to the storage.
func (s *Server) Registry() *registry.Registry { return s.registry }

// BeforeReady adds work that runs as soon as requests are answered; the server is not ready before it has returned nil.
// An error ends the process, so work that may succeed later must try again itself. ctx ends with the server.
func (s *Server) BeforeReady(name string, work func(ctx context.Context) error) error {
	err := s.generic.AddPostStartHook(name, func(hook genericapiserver.PostStartHookContext) error { return work(hook) })
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	return nil
}

// Run serves until ctx ends and requests in flight are answered.
func (s *Server) Run(ctx context.Context) error {
	if err := s.serving.serving.RunOnce(ctx); err != nil {
		return fmt.Errorf("load serving certificate: %w", err)
	}
	prepared := s.generic.PrepareRun()
	s.serving.loopback.Serve(loopback.Server{
		Handler: s.generic.Handler.Director, Resolver: s.config.RequestInfoResolver, Streams: s.config.LongRunningFunc,
		Timeout: s.config.RequestTimeout, InFlight: s.config.NonLongRunningRequestWaitGroup,
		Complete: s.generic.MuxAndDiscoveryCompleteSignals(),
	})
	defer s.serving.loopback.Close()
	if err := prepared.RunWithContext(ctx); err != nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	return nil
}
