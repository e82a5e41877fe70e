package apiserver

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"

	"coracle/controlplane/api"
	"coracle/controlplane/apiserver/openapi"
)

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

// installOpenAPI adds /openapi/v2 and /openapi/v3.
func installOpenAPI(s *genericapiserver.GenericAPIServer, c *genericapiserver.Config) {
	v2 := &documents{paths: []string{"/openapi/v2"}, build: func(m *mux.PathRecorderMux) {
		routes.OpenAPI{Config: c.OpenAPIConfig}.InstallV2(s.Handler.GoRestfulContainer, m)
	}}
	v3 := &documents{paths: []string{"/openapi/v3"}, build: func(m *mux.PathRecorderMux) {
		routes.OpenAPI{V3Config: c.OpenAPIV3Config}.InstallV3(s.Handler.GoRestfulContainer, m)
	}}
	for _, service := range s.Handler.GoRestfulContainer.RegisteredWebServices() {
		v3.paths = append(v3.paths, "/openapi/v3"+service.RootPath())
	}
	s.Handler.NonGoRestfulMux.Handle("/openapi/v2", v2)
	s.Handler.NonGoRestfulMux.Handle("/openapi/v3", v3)
	s.Handler.NonGoRestfulMux.HandlePrefix("/openapi/v3/", v3)
}
