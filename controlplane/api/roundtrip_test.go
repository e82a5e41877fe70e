package api

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/randfill"
)

// mediaTypes are the forms in which objects travel and are stored.
var mediaTypes = []string{runtime.ContentTypeJSON, runtime.ContentTypeYAML, runtime.ContentTypeProtobuf}

// codecFor encodes to one version and decodes to the hub, as storage does.
func codecFor(t testing.TB, mediaType string, gv schema.GroupVersion) runtime.Codec {
	t.Helper()
	info, ok := runtime.SerializerInfoForMediaType(Codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		t.Fatalf("no serializer for %s", mediaType)
	}
	hub := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
	return Codecs.CodecForVersions(info.Serializer, info.Serializer, gv, hub)
}

// filler fills objects with what they could hold, valid or not.
func filler(seed int64) *randfill.Filler {
	own := func(serializer.CodecFactory) []any {
		return []any{
			func(r *runtime.RawExtension, _ randfill.Continue) {
				*r = runtime.RawExtension{Raw: []byte(`{"apiVersion":"v1","kind":"X"}`)}
			},
			// A nil value of a key is read back as an empty one.
			func(b *[]byte, c randfill.Continue) { *b = []byte(c.String(0)) },
		}
	}
	return fuzzer.FuzzerFor(fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, own), rand.NewSource(seed), Codecs)
}

// TestRoundTrip: an object with its defaults comes back equal from each form, says
// in the bytes what it is, and has no kind in memory. Every kind of every group is
// tried with many random contents.
func TestRoundTrip(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 5
	}
	for _, g := range groups {
		for kind, goType := range Scheme.KnownTypes(g.version) {
			if path := goType.PkgPath(); !strings.HasPrefix(path, "k8s.io/api/") && !strings.HasPrefix(path, "k8s.io/metrics/") || (kind == "List" && g.version.Group == "") {
				continue
			}
			t.Run(g.version.String()+"/"+kind, func(t *testing.T) {
				f := filler(int64(len(kind)))
				for range rounds {
					obj, err := Scheme.New(g.version.WithKind(kind))
					if err != nil {
						t.Fatalf("new: %v", err)
					}
					f.Fill(obj)
					obj.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
					Scheme.Default(obj)
					again := obj.DeepCopyObject()
					Scheme.Default(again)
					if diff := cmp.Diff(obj, again); diff != "" && !equality.Semantic.DeepEqual(obj, again) {
						t.Fatalf("defaults are not idempotent:\n%s", diff)
					}
					for _, m := range mediaTypes {
						roundTrip(t, m, g.version.WithKind(kind), obj)
					}
				}
			})
		}
	}
}

func roundTrip(t *testing.T, mediaType string, gvk schema.GroupVersionKind, obj runtime.Object) {
	t.Helper()
	codec := codecFor(t, mediaType, gvk.GroupVersion())
	hub, err := Scheme.ConvertToVersion(obj, schema.GroupVersion{Group: gvk.Group, Version: runtime.APIVersionInternal})
	if err != nil {
		t.Fatalf("convert to hub: %v", err)
	}
	want := hub.DeepCopyObject()
	raw, err := runtime.Encode(codec, hub)
	if err != nil {
		t.Fatalf("encode as %s: %v", mediaType, err)
	}
	if !equality.Semantic.DeepEqual(hub, want) {
		t.Fatalf("encoding as %s changed the object:\n%s", mediaType, cmp.Diff(want, hub))
	}
	got, said, err := codec.Decode(raw, nil, nil)
	if err != nil {
		t.Fatalf("decode %s: %v\n%s", mediaType, err, raw)
	}
	if *said != gvk {
		t.Fatalf("%s bytes say %s, want %s", mediaType, said, gvk)
	}
	if k := got.GetObjectKind().GroupVersionKind(); !k.Empty() {
		t.Fatalf("decoded object says %s, want no kind in the hub", k)
	}
	if !equality.Semantic.DeepEqual(got, want) {
		t.Fatalf("%s came back different (-want +got):\n%s", mediaType, cmp.Diff(want, got))
	}
	second, err := runtime.Encode(codec, got)
	if err != nil {
		t.Fatalf("encode again as %s: %v", mediaType, err)
	}
	if !bytes.Equal(raw, second) {
		t.Fatalf("%s bytes differ from one encoding to the next", mediaType)
	}
}

// TestDecodeAppliesDefaults: what a client sends and what storage holds get the
// same defaults, into a new object and into one given.
func TestDecodeAppliesDefaults(t *testing.T) {
	raw := []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"nginx"}]}}`)
	codec := codecFor(t, runtime.ContentTypeJSON, corev1.SchemeGroupVersion)
	fresh, err := runtime.Decode(codec, raw)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	into := &corev1.Pod{}
	if err := runtime.DecodeInto(codec, raw, into); err != nil {
		t.Fatalf("decode into: %v", err)
	}
	for name, obj := range map[string]runtime.Object{"new": fresh, "into": into} {
		p := obj.(*corev1.Pod)
		if p.Spec.RestartPolicy != corev1.RestartPolicyAlways || p.Spec.Containers[0].ImagePullPolicy != corev1.PullAlways || p.Spec.TerminationGracePeriodSeconds == nil {
			t.Errorf("%s: defaults missing: %+v", name, p.Spec)
		}
	}
	list := []byte(`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"nginx:1"}]}}]}`)
	obj, err := runtime.Decode(codec, list)
	if err != nil {
		t.Fatalf("decode list: %v", err)
	}
	if c := obj.(*corev1.PodList).Items[0].Spec.Containers[0]; c.ImagePullPolicy != corev1.PullIfNotPresent {
		t.Errorf("items of a list have no defaults: %+v", c)
	}
}

// TestMetaKinds: the kinds that every version needs for its REST handlers are there.
func TestMetaKinds(t *testing.T) {
	for _, g := range groups {
		for _, kind := range []string{"ListOptions", "GetOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "DeleteOptions", "WatchEvent"} {
			if !Scheme.Recognizes(g.version.WithKind(kind)) {
				t.Errorf("%s has no %s", g.version, kind)
			}
		}
		if vs := Scheme.PrioritizedVersionsForGroup(g.version.Group); len(vs) == 0 || vs[0] != g.version {
			t.Errorf("%s: priorities are %v", g.version.Group, vs)
		}
	}
	for _, kind := range []string{"Table", "PartialObjectMetadata", "PartialObjectMetadataList"} {
		if !Scheme.Recognizes(metav1.SchemeGroupVersion.WithKind(kind)) {
			t.Errorf("meta.k8s.io/v1 has no %s", kind)
		}
	}
	if _, unversioned, err := Scheme.ObjectKinds(&metav1.Status{}); err != nil || !unversioned {
		t.Errorf("Status is not unversioned: %v", err)
	}
}

// FuzzDecode feeds arbitrary bytes to the decoders: they may refuse, never crash,
// and what they take they take the same way again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`))
	f.Add([]byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {template: {spec: {containers: [{name: c}]}}}\n"))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Secret","stringData":{"a":"b"}}`))
	f.Add([]byte(`{"apiVersion":"events.k8s.io/v1","kind":"Event","note":"n"}`))
	raw, err := runtime.Encode(codecFor(f, runtime.ContentTypeProtobuf, corev1.SchemeGroupVersion), &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 1}}}})
	if err != nil {
		f.Fatalf("encode seed: %v", err)
	}
	f.Add(raw)
	decoder := Codecs.UniversalDecoder()
	f.Fuzz(func(t *testing.T, data []byte) {
		obj, _, err := decoder.Decode(data, nil, nil)
		if err != nil {
			return
		}
		if _, _, err := Scheme.ObjectKinds(obj); err != nil {
			t.Fatalf("decoded to an unknown kind %T: %v", obj, err)
		}
		first, err := json.Marshal(obj)
		if err != nil {
			return // Quantities may hold what JSON text of theirs cannot say.
		}
		Scheme.Default(obj)
		second, err := json.Marshal(obj)
		if err != nil {
			t.Fatalf("defaults made the object unreadable: %v", err)
		}
		if !bytes.Equal(first, second) {
			t.Fatalf("defaults are not idempotent:\n%s\n%s", first, second)
		}
	})
}
