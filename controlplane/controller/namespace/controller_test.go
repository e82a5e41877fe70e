package namespace

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	discoveryfake "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/loop"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

func held(namespace, name string, finalizers ...string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Finalizers: finalizers},
	}
}

// A namespace is emptied object by object where the resource has no other way; what a finalizer holds keeps it, with the
// reason in its conditions; once that is gone too, the namespace's own finalizer goes.
func TestEmptiesAndFinalizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scheme := metadatafake.NewTestScheme()
		if err := metav1.AddMetaToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		m := metadatafake.NewSimpleMetadataClient(scheme, held("team", "a"), held("team", "b", "example.com/wait"), held("other", "c"))
		m.PrependReactor("delete", "configmaps", func(a k8stesting.Action) (bool, runtime.Object, error) {
			d := a.(k8stesting.DeleteAction)
			obj, err := m.Tracker().Get(configMaps, d.GetNamespace(), d.GetName())
			if err != nil {
				return true, nil, err
			}
			// As an API server does: what has finalizers is marked only.
			return len(obj.(*metav1.PartialObjectMetadata).Finalizers) > 0, nil, nil
		})
		client := fake.NewClientset(&corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: "team", DeletionTimestamp: &metav1.Time{Time: time.Now()}},
			Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"mine", corev1.FinalizerKubernetes}},
		}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
		client.Discovery().(*discoveryfake.FakeDiscovery).Resources = []*metav1.APIResourceList{{
			GroupVersion: "v1", APIResources: []metav1.APIResource{
				{Name: "configmaps", Kind: "ConfigMap", Namespaced: true, Verbs: metav1.Verbs{"list", "delete"}},
				{Name: "nodes", Kind: "Node", Verbs: metav1.Verbs{"list", "delete"}},
			},
		}}
		factory := informers.NewSharedInformerFactory(client, 0)
		c := New(loop.Env{
			Client: client, Informers: factory, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Recorder: func(string) record.EventRecorder { return record.NewFakeRecorder(10) },
		}, m)
		ctx, cancel := context.WithCancel(t.Context())
		factory.Start(ctx.Done())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		get := func() *corev1.Namespace {
			t.Helper()
			<-time.After(time.Minute)
			ns, err := client.CoreV1().Namespaces().Get(t.Context(), "team", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return ns
		}

		ns := get()
		if ns.Status.Phase != corev1.NamespaceTerminating || len(ns.Spec.Finalizers) != 2 {
			t.Errorf("phase %s, finalizers %v", ns.Status.Phase, ns.Spec.Finalizers)
		}
		says := map[corev1.NamespaceConditionType]string{}
		for _, cond := range ns.Status.Conditions {
			if cond.Status == corev1.ConditionTrue {
				says[cond.Type] = cond.Message
			}
		}
		if len(says) != 2 || says[corev1.NamespaceFinalizersRemaining] != "Some content in the namespace has finalizers remaining: example.com/wait in 1 resource instances" {
			t.Errorf("conditions %v", says)
		}
		left, err := m.Resource(configMaps).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(left.Items) != 2 {
			t.Errorf("%d config maps are left, want that with a finalizer and that of the other namespace (%v)", len(left.Items), err)
		}

		if err := m.Tracker().Delete(configMaps, "team", "b"); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		finalized := false
		for _, a := range client.Actions() {
			if a.GetSubresource() == "finalize" {
				sent := a.(k8stesting.CreateAction).GetObject().(*corev1.Namespace)
				finalized = len(sent.Spec.Finalizers) == 1 && sent.Spec.Finalizers[0] == "mine"
			}
		}
		if !finalized {
			t.Error("the finalizer was not taken away, or more than it")
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		factory.Shutdown()
	})
}
