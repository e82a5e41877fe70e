package server

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apihelpers"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionclient "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// widgets is a definition in the group GROUP with all that a definition can ask for, conversion by webhook aside.
const widgets = `
metadata: {name: widgets.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, listKind: WidgetList, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: Widget is a thing in the shop.
        properties:
          spec:
            type: object
            required: [size]
            x-kubernetes-validations:
            - {rule: "self.size <= self.max", message: size must not exceed max}
            - {rule: "!has(oldSelf.color) || self.color == oldSelf.color", message: color is for ever}
            properties:
              size: {type: integer, minimum: 0}
              max: {type: integer, default: 10}
              color: {type: string, enum: [red, green]}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items: {type: object, required: [name], properties: {name: {type: string}, count: {type: integer}}}
          status: {type: object, properties: {size: {type: integer}, selector: {type: string}}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size, labelSelectorPath: .status.selector}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    selectableFields:
    - {jsonPath: .spec.color}
  - name: v1beta1
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

func (c *cluster) definitions(t *testing.T) extensionclient.CustomResourceDefinitionInterface {
	t.Helper()
	client, err := extensionclient.NewForConfig(c.rest)
	if err != nil {
		t.Fatal(err)
	}
	return client.CustomResourceDefinitions()
}

// define makes the definition of widgets in a group of its own, until the test ends, and waits until widgets are served.
func (c *cluster) define(t *testing.T, ns string) (*apiextensionsv1.CustomResourceDefinition, dynamic.ResourceInterface) {
	t.Helper()
	group := ns + ".example.com"
	var crd *apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(widgets, "GROUP", group)), &crd); err != nil {
		t.Fatal(err)
	}
	api := c.definitions(t)
	crd, err := api.Create(t.Context(), crd, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A test may have deleted it itself.
		if err := api.Delete(context.Background(), crd.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
	eventually(t, "the definition is established", func() error {
		if crd, err = api.Get(t.Context(), crd.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !apihelpers.IsCRDConditionTrue(crd, apiextensionsv1.Established) {
			return fmt.Errorf("conditions: %v", crd.Status.Conditions)
		}
		return nil
	})
	return crd, c.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}).Namespace(ns)
}

func newWidget(crd *apiextensionsv1.CustomResourceDefinition, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": crd.Spec.Group + "/v1", "kind": "Widget", "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}
