package apiserver

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"

	"coracle/controlplane/api"
	"coracle/controlplane/apiserver/openapi"
)

// documentsKept is how long built OpenAPI documents stay in memory after their last use. They take tens of megabytes
// and are asked for by explain and client-side apply only.
const documentsKept = 2 * time.Minute

// publishedScheme holds the served versions alone, so that no document names the hub version.
func publishedScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for gvk := range api.Scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		obj, err := api.Scheme.New(gvk)
		if err != nil {
			panic(fmt.Sprintf("the scheme cannot make %s, which it knows: %v", gvk, err)) //nolint:errorlint // a broken build
		}
		s.AddKnownTypeWithName(gvk, obj)
	}
	return s
}

// applyOpenAPI gives the generic configuration what server-side apply, field validation and the documents are made of.
func applyOpenAPI(c *genericapiserver.Config) {
	namer := apiopenapi.NewDefinitionNamer(publishedScheme())
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIConfig.Info.Title = "Kubernetes"
	c.OpenAPIConfig.Info.Version = KubernetesVersion
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIV3Config.Info.Title = "Kubernetes"
	c.OpenAPIV3Config.Info.Version = KubernetesVersion
	c.SkipOpenAPIInstallation = true
}

// documents serves paths whose handlers are costly: they are built at the first request and dropped when nobody has
// asked for a while.
type documents struct {
	build func(*mux.PathRecorderMux)

	mu      sync.Mutex
	handler http.Handler
	expiry  *time.Timer
}

func (d *documents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.get().ServeHTTP(w, r)
}

func (d *documents) get() http.Handler {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.handler == nil {
		m := mux.NewPathRecorderMux("openapi")
		d.build(m)
		d.handler = m
		d.expiry = time.AfterFunc(documentsKept, d.drop)
	}
	d.expiry.Reset(documentsKept)
	return d.handler
}

func (d *documents) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handler = nil
}

// installOpenAPI adds /openapi/v2 and /openapi/v3.
func installOpenAPI(s *genericapiserver.GenericAPIServer, c *genericapiserver.Config) {
	v2 := &documents{build: func(m *mux.PathRecorderMux) {
		routes.OpenAPI{Config: c.OpenAPIConfig}.InstallV2(s.Handler.GoRestfulContainer, m)
	}}
	v3 := &documents{build: func(m *mux.PathRecorderMux) {
		routes.OpenAPI{V3Config: c.OpenAPIV3Config}.InstallV3(s.Handler.GoRestfulContainer, m)
	}}
	s.Handler.NonGoRestfulMux.Handle("/openapi/v2", v2)
	s.Handler.NonGoRestfulMux.Handle("/openapi/v3", v3)
	s.Handler.NonGoRestfulMux.HandlePrefix("/openapi/v3/", v3)
}
