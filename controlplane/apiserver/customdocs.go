package apiserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// v3Index is where clients learn which documents there are, and their hashes.
const v3Index = "/openapi/v3"

// index is the shelf of one document: the index of all the others.
type index struct{ of library }

// find implements shelf. Each part knows its own documents; the index is the sum. It has one form only.
func (x index) find(path, _ string) (*document, error) {
	if path != v3Index {
		return nil, nil
	}
	sum := handler3.OpenAPIV3Discovery{Paths: map[string]handler3.OpenAPIV3DiscoveryGroupVersion{}}
	for _, part := range x.of {
		doc, err := part.find(path, "application/json")
		if err != nil {
			return nil, err
		}
		if doc == nil {
			continue
		}
		plain, err := doc.plain()
		if err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		var one handler3.OpenAPIV3Discovery
		if err := json.NewDecoder(plain).Decode(&one); err != nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		for name, entry := range one.Paths {
			if _, known := sum.Paths[name]; !known { // as library does: the first that knows a document serves it
				sum.Paths[name] = entry
			}
		}
	}
	text, err := json.Marshal(sum)
	if err != nil {
		return nil, fmt.Errorf("write index: %w", err)
	}
	hash := sha256.Sum256(text)
	return newDocument(text, strconv.Quote(strings.ToUpper(hex.EncodeToString(hash[:]))), "application/json")
}

// definitions describes custom resources. A definition that cannot be described is left out and told: the documents of all
// others do not depend on it.
type definitions struct {
	list func() ([]*apiextensionsv1.CustomResourceDefinition, error)
	log  *slog.Logger
}

// each calls f for every served version of every definition, in the order of names.
func (d definitions) each(f func(crd *apiextensionsv1.CustomResourceDefinition, version string) error) error {
	crds, err := d.list()
	if err != nil {
		return err
	}
	slices.SortFunc(crds, func(a, b *apiextensionsv1.CustomResourceDefinition) int { return strings.Compare(a.Name, b.Name) })
	for _, crd := range crds {
		for _, v := range crd.Spec.Versions {
			if !v.Served {
				continue
			}
			if err := f(crd, v.Name); err != nil {
				d.log.Warn("OpenAPI leaves out a custom resource", "definition", crd.Name, "version", v.Name, "err", err)
			}
		}
	}
	return nil
}

// buildV3 installs a document for each group and version of custom resources.
func (d definitions) buildV3(m *mux.PathRecorderMux) ([]string, error) {
	byVersion := map[schema.GroupVersion]*spec3.OpenAPI{}
	err := d.each(func(crd *apiextensionsv1.CustomResourceDefinition, version string) error {
		one, err := builder.BuildOpenAPIV3(crd, version, builder.Options{IncludeSelectableFields: true})
		if err != nil {
			return err
		}
		gv := schema.GroupVersion{Group: crd.Spec.Group, Version: version}
		if sum := byVersion[gv]; sum != nil {
			if one, err = builder.MergeSpecsV3(sum, one); err != nil {
				return err
			}
		}
		byVersion[gv] = one
		return nil
	})
	if err != nil {
		return nil, err
	}
	service := handler3.NewOpenAPIService()
	if err := service.RegisterOpenAPIV3VersionedService(v3Index, m); err != nil {
		return nil, err
	}
	paths := []string{v3Index}
	for gv, document := range byVersion {
		name := "apis/" + gv.Group + "/" + gv.Version
		service.UpdateGroupVersion(name, document)
		paths = append(paths, v3Index+"/"+name)
	}
	return paths, nil
}

// v2 describes the custom resources for the one document that has everything.
func (d definitions) v2() ([]*spec.Swagger, error) {
	var out []*spec.Swagger
	err := d.each(func(crd *apiextensionsv1.CustomResourceDefinition, version string) error {
		one, err := builder.BuildOpenAPIV2(crd, version, builder.Options{V2: true, IncludeSelectableFields: true})
		if err == nil {
			out = append(out, one)
		}
		return err
	})
	return out, err
}
