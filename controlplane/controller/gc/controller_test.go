package gc

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	discoveryfake "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/loop"
)

var (
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	roles      = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
)

func object(kind, namespace, name string, owners ...metav1.OwnerReference) *metav1.PartialObjectMetadata {
	version := "v1"
	if kind == "ClusterRole" {
		version = roles.GroupVersion().String()
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: version, Kind: kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + name), OwnerReferences: owners},
	}
}

func ownedBy(apiVersion, kind, name string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID("uid-" + name)}
}

// collect runs the collector over these objects.
func collect(t *testing.T, objects []runtime.Object, test func(c *Controller, m *metadatafake.FakeMetadataClient, events *record.FakeRecorder)) {
	synctest.Test(t, func(t *testing.T) {
		scheme := metadatafake.NewTestScheme()
		if err := metav1.AddMetaToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		m := metadatafake.NewSimpleMetadataClient(scheme, objects...)
		client := fake.NewClientset()
		verbs := metav1.Verbs{"list", "watch", "delete", "get", "patch"}
		client.Discovery().(*discoveryfake.FakeDiscovery).Resources = []*metav1.APIResourceList{
			{GroupVersion: "v1", APIResources: []metav1.APIResource{
				{Name: "configmaps", Kind: "ConfigMap", Namespaced: true, Verbs: verbs},
				{Name: "bindings", Kind: "Binding", Namespaced: true, Verbs: metav1.Verbs{"create"}},
			}},
			{GroupVersion: roles.GroupVersion().String(), APIResources: []metav1.APIResource{{Name: "clusterroles", Kind: "ClusterRole", Verbs: verbs}}},
		}
		events := record.NewFakeRecorder(100)
		c := New(loop.Env{
			Client: client, Informers: informers.NewSharedInformerFactory(client, 0), Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Recorder: func(string) record.EventRecorder { return events },
		}, m)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		<-time.After(10 * time.Second)
		test(c, m, events)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func there(t *testing.T, m *metadatafake.FakeMetadataClient, r schema.GroupVersionResource, namespace, name string) bool {
	t.Helper()
	_, err := m.Resource(r).Namespace(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	return err == nil
}

func TestCollects(t *testing.T) {
	cm := func(name string, owners ...metav1.OwnerReference) runtime.Object {
		return object("ConfigMap", "team", name, owners...)
	}
	replaced := ownedBy("v1", "ConfigMap", "root")
	replaced.UID = "of the former root"
	objects := []runtime.Object{
		cm("root"), cm("child", ownedBy("v1", "ConfigMap", "root")), cm("grandchild", ownedBy("v1", "ConfigMap", "child")),
		cm("orphan", ownedBy("v1", "ConfigMap", "nobody")),
		cm("of-a-former-root", replaced),
		cm("half", ownedBy("v1", "ConfigMap", "nobody"), ownedBy("v1", "ConfigMap", "root")),
		cm("of-an-unknown-kind", ownedBy("example.com/v1", "Widget", "w")),
		cm("of-the-cluster", ownedBy(roles.GroupVersion().String(), "ClusterRole", "admin")),
		object("ClusterRole", "", "admin"),
		object("ClusterRole", "", "confused", ownedBy("v1", "ConfigMap", "elsewhere")),
		object("ConfigMap", "other", "astray", ownedBy("v1", "ConfigMap", "root")),
	}
	collect(t, objects, func(_ *Controller, m *metadatafake.FakeMetadataClient, events *record.FakeRecorder) {
		for name, want := range map[string]bool{
			"root": true, "child": true, "grandchild": true, "orphan": false, "of-a-former-root": false, "half": true,
			"of-an-unknown-kind": true, "of-the-cluster": true,
		} {
			if got := there(t, m, configMaps, "team", name); got != want {
				t.Errorf("%s is there: %v, want %v", name, got, want)
			}
		}
		if !there(t, m, roles, "", "confused") {
			t.Error("a cluster-scoped object was deleted for an owner that can be nowhere")
		}
		if there(t, m, configMaps, "other", "astray") {
			t.Error("an object is kept by an owner in another namespace")
		}
		half, err := m.Resource(configMaps).Namespace("team").Get(t.Context(), "half", metav1.GetOptions{})
		if err != nil || len(half.OwnerReferences) != 1 || half.OwnerReferences[0].Name != "root" {
			t.Errorf("owners of half: %v, %v", half.OwnerReferences, err)
		}
		told := ""
		for len(events.Events) > 0 {
			told += <-events.Events + "\n"
		}
		if !strings.Contains(told, "OwnerRefInvalidNamespace") || !strings.Contains(told, `does not exist in namespace "other"`) {
			t.Errorf("events:\n%s", told)
		}

		if err := m.Resource(configMaps).Namespace("team").Delete(t.Context(), "root", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		for _, name := range []string{"child", "grandchild", "half"} {
			if there(t, m, configMaps, "team", name) {
				t.Errorf("%s is left after its owner went", name)
			}
		}
	})
}

// A resource that is not served any more is forgotten, and what its objects owned is looked at.
func TestAResourceGoes(t *testing.T) {
	objects := []runtime.Object{
		object("ClusterRole", "", "admin"), object("ConfigMap", "team", "kept", ownedBy(roles.GroupVersion().String(), "ClusterRole", "admin")),
		object("ConfigMap", "team", "root"), object("ConfigMap", "team", "child", ownedBy("v1", "ConfigMap", "root")),
	}
	collect(t, objects, func(c *Controller, m *metadatafake.FakeMetadataClient, _ *record.FakeRecorder) {
		d := c.discovery.(*discoveryfake.FakeDiscovery)
		synctest.Wait()
		d.Lock() // each call of discovery takes it before it reads
		d.Resources = d.Resources[:1]
		d.Unlock()
		<-time.After(2 * rediscover)
		if c.graph.get("uid-admin") != nil {
			t.Error("an object of a resource that is gone is still in the graph")
		}
		if !there(t, m, configMaps, "team", "kept") {
			t.Error("deleted on a guess: nobody can say whether its owner is gone")
		}
		if err := m.Resource(configMaps).Namespace("team").Delete(t.Context(), "root", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		if there(t, m, configMaps, "team", "child") {
			t.Error("the collector has stopped")
		}
	})
}

// A watch that ends because its resource is gone has the resource forgotten at once, and nobody is told of an error.
func TestAResourceGoesWhileItIsWatched(t *testing.T) {
	collect(t, []runtime.Object{object("ClusterRole", "", "admin")}, func(c *Controller, m *metadatafake.FakeMetadataClient, _ *record.FakeRecorder) {
		d := c.discovery.(*discoveryfake.FakeDiscovery)
		synctest.Wait()
		d.Lock()
		d.Resources = d.Resources[:1]
		d.Unlock()
		c.watchFailed(t.Context(), nil, apierrors.NewNotFound(roles.GroupResource(), ""))
		synctest.Wait()
		if c.graph.get("uid-admin") != nil {
			t.Error("an object of a resource that is gone is still in the graph")
		}
	})
}

// Nothing is deleted while one resource cannot be listed: the owners might be among its objects.
func TestWaitsForEveryFirstList(t *testing.T) {
	g := newGraph()
	c := &Controller{graph: g, env: loop.Env{Log: slog.New(slog.DiscardHandler)}}
	v := newVertex(things, object("Thing", "team", "x", ownedBy("v1", "Thing", "nobody")))
	g.set(v)
	// Without metadata client and loop this would panic if anything were looked up or deleted.
	if err := c.reconcile(t.Context(), v.uid); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(g.suspects()); got != "[uid-x]" {
		t.Errorf("suspects once all is listed: %s", got)
	}
}
