package apiserver

import (
	"fmt"
	"log/slog"

	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/runtime"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"

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
	setDefinitions(c, openapi.GetOpenAPIDefinitions, publishedScheme())
	c.SkipOpenAPIInstallation = true
}

func setDefinitions(c *genericapiserver.Config, definitions common.GetOpenAPIDefinitions, scheme *runtime.Scheme) {
	namer := apiopenapi.NewDefinitionNamer(scheme)
	c.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(definitions, namer)
	c.OpenAPIConfig.Info.Title = "Kubernetes"
	c.OpenAPIConfig.Info.Version = KubernetesVersion
	c.OpenAPIV3Config = genericapiserver.DefaultOpenAPIV3Config(definitions, namer)
	c.OpenAPIV3Config.Info.Title = "Kubernetes"
	c.OpenAPIV3Config.Info.Version = KubernetesVersion
}

// installOpenAPI adds /openapi/v2, one document, and /openapi/v3, an index and a document for each group and version.
func installOpenAPI(s *genericapiserver.GenericAPIServer, c *genericapiserver.Config, e *extensions, log *slog.Logger) error {
	crds := definitions{list: e.established, log: log}
	v2 := &documents{build: func(m *mux.PathRecorderMux) ([]string, error) {
		return []string{"/openapi/v2"}, buildV2(m, c, s, e, crds)
	}}
	builtin := &documents{build: func(m *mux.PathRecorderMux) ([]string, error) {
		return buildV3(m, c.OpenAPIV3Config, s), nil
	}}
	extension := &documents{build: func(m *mux.PathRecorderMux) ([]string, error) {
		return buildV3(m, e.config.OpenAPIV3Config, e.server.GenericAPIServer), nil
	}}
	custom := &documents{build: func(m *mux.PathRecorderMux) ([]string, error) { return crds.buildV3(m) }}
	if err := e.onChange(func() { v2.outdate(); custom.outdate() }); err != nil {
		return err
	}
	// No definition hides a built-in kind: first come the built-in shelves.
	v3 := library{builtin, extension, custom}
	nonResource := s.Handler.NonGoRestfulMux
	nonResource.Handle("/openapi/v2", library{v2})
	nonResource.Handle(v3Index, library{index{v3}})
	nonResource.HandlePrefix(v3Index+"/", v3)
	return nil
}

// buildV3 installs the documents of what the server serves itself.
func buildV3(m *mux.PathRecorderMux, config *common.OpenAPIV3Config, s *genericapiserver.GenericAPIServer) []string {
	container := s.Handler.GoRestfulContainer
	routes.OpenAPI{V3Config: config}.InstallV3(container, m)
	paths := []string{v3Index}
	for _, service := range container.RegisteredWebServices() {
		paths = append(paths, v3Index+service.RootPath())
	}
	return paths
}

// buildV2 installs the one document of everything that is served.
func buildV2(m *mux.PathRecorderMux, c *genericapiserver.Config, s *genericapiserver.GenericAPIServer, e *extensions, crds definitions) error {
	service, builtin := routes.OpenAPI{Config: c.OpenAPIConfig}.InstallV2(s.Handler.GoRestfulContainer, m)
	_, own := routes.OpenAPI{Config: e.config.OpenAPIConfig}.InstallV2(
		e.server.GenericAPIServer.Handler.GoRestfulContainer, mux.NewPathRecorderMux("extensions"))
	custom, err := crds.v2()
	if err != nil {
		return err
	}
	merged, err := builder.MergeSpecs(builtin, append([]*spec.Swagger{own}, custom...)...)
	if err != nil {
		return fmt.Errorf("merge: %w", err)
	}
	return service.UpdateSpec(merged)
}
