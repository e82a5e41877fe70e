package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"

	"coracle/internal/testwait"
)

func TestCustomResourcesAreDefaultedPrunedAndValidated(t *testing.T) {
	c, ns := use(t)
	crd, api := c.define(t, ns)
	ctx := t.Context()
	w, err := api.Create(ctx, newWidget(crd, "a", map[string]any{"size": int64(3), "color": "red", "weight": int64(1)}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(w.Object["spec"]); got != "map[color:red max:10 size:3]" {
		t.Errorf("created as %s", got)
	}
	_, err = api.Create(ctx, newWidget(crd, "b", map[string]any{"size": int64(3), "weight": int64(1)}), metav1.CreateOptions{FieldValidation: "Strict"})
	wantStatus(t, err, 400, `unknown field "spec.weight"`)
	for want, spec := range map[string]map[string]any{
		"spec.size: Required value":          {},
		"should be greater than or equal to": {"size": int64(-1)},
		"size must not exceed max":           {"size": int64(11)},
		`supported values: "red", "green"`:   {"size": int64(1), "color": "blue"},
	} {
		_, err := api.Create(ctx, newWidget(crd, "b", spec), metav1.CreateOptions{})
		wantStatus(t, err, 422, want)
	}
	_, err = api.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"color":"green"}}`), metav1.PatchOptions{})
	wantStatus(t, err, 422, "color is for ever")
	other := c.dynamic.Resource(schema.GroupVersionResource{Group: crd.Spec.Group, Version: "v1beta1", Resource: "widgets"}).Namespace(ns)
	if w, err := other.Get(ctx, "a", metav1.GetOptions{}); err != nil || w.GetAPIVersion() != crd.Spec.Group+"/v1beta1" {
		t.Errorf("in its other version: %v %v", w, err)
	}
	for selector, want := range map[string]int{"spec.color=red": 1, "spec.color=green": 0} {
		if list, err := api.List(ctx, metav1.ListOptions{FieldSelector: selector}); err != nil || len(list.Items) != want {
			t.Errorf("selected by %s: %v %v", selector, list, err)
		}
	}
	_, err = api.List(ctx, metav1.ListOptions{FieldSelector: "spec.size=3"})
	wantStatus(t, err, 400, "field label not supported: spec.size")
	raw, err := c.client.Discovery().RESTClient().Get().AbsPath("/apis/"+crd.Spec.Group+"/v1/namespaces/"+ns+"/widgets").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	var table metav1.Table
	if err == nil {
		err = json.Unmarshal(raw, &table)
	}
	if err != nil || len(table.Rows) != 1 || table.ColumnDefinitions[1].Name != "Size" || fmt.Sprint(table.Rows[0].Cells) != "[a 3]" {
		t.Errorf("table: %s %v", raw, err)
	}
}

func TestCustomResourceSubresourcesAndApply(t *testing.T) {
	c, ns := use(t)
	crd, api := c.define(t, ns)
	ctx := t.Context()
	apply := func(manager, body string, subresources ...string) (*unstructured.Unstructured, error) {
		body = fmt.Sprintf(`{"apiVersion":%q,"kind":"Widget","metadata":{"name":"a"},%s}`, crd.Spec.Group+"/v1", body)
		return api.Patch(ctx, "a", types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: manager}, subresources...)
	}
	if _, err := apply("one", `"spec":{"size":2,"parts":[{"name":"x","count":1}]},"status":{"size":9}`); err != nil {
		t.Fatal(err)
	}
	w, err := apply("two", `"spec":{"parts":[{"name":"y","count":2}]}`)
	if err != nil {
		t.Fatal(err)
	}
	parts, _, _ := unstructured.NestedSlice(w.Object, "spec", "parts")
	if _, found := w.Object["status"]; len(parts) != 2 || found {
		t.Errorf("two appliers made %v", w.Object)
	}
	_, err = apply("two", `"spec":{"size":3}`)
	wantStatus(t, err, 409, `conflict with "one"`)
	generation := w.GetGeneration()
	w, err = apply("status", `"status":{"size":2,"selector":"app=x"},"spec":{"size":7}`, "status")
	if size, _, _ := unstructured.NestedInt64(w.Object, "spec", "size"); err != nil || size != 2 || w.GetGeneration() != generation {
		t.Errorf("apply of the status: %v %v", w, err)
	}
	s, err := api.Get(ctx, "a", metav1.GetOptions{}, "scale")
	if err != nil || s.GetKind() != "Scale" || fmt.Sprint(s.Object["spec"], s.Object["status"]) != "map[replicas:2] map[replicas:2 selector:app=x]" {
		t.Errorf("scale: %v %v", s, err)
	}
	if _, err := api.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{}, "scale"); err != nil {
		t.Fatal(err)
	}
	w, err = api.Get(ctx, "a", metav1.GetOptions{})
	if size, _, _ := unstructured.NestedInt64(w.Object, "spec", "size"); err != nil || size != 5 || w.GetGeneration() != generation+1 {
		t.Errorf("after scaling: %v %v", w, err)
	}
}

// documents returns what the API says of the group: the OpenAPI v3 index and document, and the OpenAPI v2 document.
func (c *cluster) documents(t *testing.T, group string) (index, v3, v2 string) {
	t.Helper()
	get := func(path string) string {
		out, err := c.client.Discovery().RESTClient().Get().AbsPath(path).DoRaw(t.Context())
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatalf("%s: %v", path, err)
		}
		return string(out)
	}
	return get("/openapi/v3"), get("/openapi/v3/apis/" + group + "/v1"), get("/openapi/v2")
}

func TestDefinitionsAreDiscoveredAndDocumented(t *testing.T) {
	c, ns := use(t)
	group := ns + ".example.com"
	before, document, _ := c.documents(t, group)
	if strings.Contains(before, group) || !strings.Contains(before, "apis/apiextensions.k8s.io/v1") || strings.Contains(document, "Widget is") {
		t.Fatalf("before the definition: %s %s", before, document)
	}
	crd, api := c.define(t, ns)
	eventually(t, "discovery in one document", func() error {
		lists, err := discovery.ServerPreferredResources(c.client.Discovery())
		if err != nil {
			return err
		}
		for _, l := range lists {
			if l.GroupVersion == group+"/v1" && l.APIResources[0].ShortNames[0] == "wd" {
				return nil
			}
		}
		return fmt.Errorf("no %s in %v", group, lists)
	})
	groups, err := discovery.NewDiscoveryClient(c.client.Discovery().RESTClient()).WithLegacy().ServerGroups()
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	for i, g := range groups.Groups {
		listed[g.Name] = i
	}
	if listed[group] <= listed["scheduling.k8s.io"] || listed[group] <= listed["apiextensions.k8s.io"] || listed["apps"] == 0 || groups.Groups[listed[group]].PreferredVersion.Version != "v1" {
		t.Errorf("groups: %v", groups.Groups)
	}
	resources, err := c.client.Discovery().ServerResourcesForGroupVersion(group + "/v1")
	if err != nil || len(resources.APIResources) != 3 {
		t.Errorf("resources: %v %v", resources, err)
	}
	first, document, v2 := c.documents(t, group)
	if !strings.Contains(first, "apis/"+group+"/v1?hash=") && !strings.Contains(first, "apis/"+group+"/v1\"") {
		t.Errorf("the index has no %s: %s", group, first)
	}
	for what, text := range map[string]string{"v3": document, "v2": v2} {
		if !strings.Contains(text, "Widget is a thing in the shop.") {
			t.Errorf("%s does not describe widgets: %.300s", what, text)
		}
	}
	if !strings.Contains(v2, "io.k8s.api.core.v1.Pod") || !strings.Contains(v2, "CustomResourceDefinitionSpec") {
		t.Error("v2 has lost the other kinds")
	}
	patch := []byte(`[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema/description","value":"Widget was changed."}]`)
	if _, err := c.definitions(t).Patch(t.Context(), crd.Name, types.JSONPatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the documents follow", func() error {
		index, document, v2 := c.documents(t, group)
		if index == first || !strings.Contains(document, "Widget was changed.") || !strings.Contains(v2, "Widget was changed.") {
			return fmt.Errorf("v3 says %.300s", document)
		}
		return nil
	})
	if _, err := api.Create(t.Context(), newWidget(crd, "a", map[string]any{"size": int64(1)}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestDeletionOfADefinitionDeletesItsObjects(t *testing.T) {
	c, ns := use(t)
	crd, api := c.define(t, ns)
	ctx := t.Context()
	held := newWidget(crd, "held", map[string]any{"size": int64(1)})
	held.SetFinalizers([]string{"x.example/y"})
	for _, w := range []*unstructured.Unstructured{newWidget(crd, "a", map[string]any{"size": int64(1)}), held} {
		if _, err := api.Create(ctx, w, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	watch, err := api.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=a"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if err := c.definitions(t).Delete(ctx, crd.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(testwait.Patience)
	for deleted := false; !deleted; {
		select {
		case e := <-watch.ResultChan():
			deleted = e.Type == "DELETED"
		case <-deadline:
			t.Fatal("no event of the deletion")
		}
	}
	if _, err := c.definitions(t).Get(ctx, crd.Name, metav1.GetOptions{}); err != nil {
		t.Errorf("the definition went before its objects: %v", err)
	}
	if _, err := api.Patch(ctx, "held", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the definition goes", func() error {
		if _, err := c.definitions(t).Get(ctx, crd.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there (%w)", err)
		}
		index, _, v2 := c.documents(t, crd.Spec.Group)
		groups, err := c.client.Discovery().ServerGroups()
		if err != nil || strings.Contains(groups.String(), crd.Spec.Group) || strings.Contains(index+v2, crd.Spec.Group) {
			return fmt.Errorf("its group is still known (%w)", err)
		}
		return nil
	})
	_, err = api.List(ctx, metav1.ListOptions{})
	wantStatus(t, err, http.StatusNotFound, "could not find the requested resource")
	if left, err := c.etcd(t).Get(ctx, "/registry/"+crd.Spec.Group+"/"); err != nil || len(left.Kvs) != 0 {
		t.Errorf("left in etcd: %v %v", left, err)
	}
}

func TestControllersSeeCustomResources(t *testing.T) {
	c, ns := use(t)
	crd, api := c.define(t, ns)
	ctx := t.Context()
	owner, err := api.Create(ctx, newWidget(crd, "owner", map[string]any{"size": int64(1)}), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: owner.GetAPIVersion(), Kind: "Widget", Name: "owner", UID: owner.GetUID()},
	}}}
	if _, err := c.client.CoreV1().ConfigMaps(ns).Create(ctx, owned, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(ctx, "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// The garbage collector asks for new kinds twice a minute.
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 2*testwait.Patience, true, func(context.Context) (bool, error) {
		_, err := c.client.CoreV1().ConfigMaps(ns).Get(ctx, "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		t.Fatal("what the widget owned was not collected")
	}
	if _, err := api.Create(ctx, newWidget(crd, "last", map[string]any{"size": int64(1)}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace goes with its widgets", func() error {
		if _, err := c.client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there (%w)", err)
		}
		list, err := api.List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 0 {
			return fmt.Errorf("widgets are left: %v (%w)", list, err)
		}
		return nil
	})
}
