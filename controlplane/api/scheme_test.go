package api

import (
	"net/url"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestHubIsTheVersionedType holds what the registry builds on: the hub of every
// kind is the versioned Go type, and a decoded hub object carries no kind.
func TestHubIsTheVersionedType(t *testing.T) {
	hub := schema.GroupVersion{Group: "", Version: runtime.APIVersionInternal}
	for _, g := range groups {
		for kind := range Scheme.KnownTypes(g.version) {
			obj, err := Scheme.New(g.version.WithKind(kind))
			if err != nil {
				t.Fatalf("new %s: %v", kind, err)
			}
			gvks, _, err := Scheme.ObjectKinds(obj)
			if err != nil {
				t.Fatalf("kinds of %s: %v", kind, err)
			}
			if gvks[0].Version == runtime.APIVersionInternal {
				t.Errorf("%s in %s: first kind is %s, want the version first", kind, g.version, gvks[0])
			}
		}
	}
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
	out, err := Scheme.ConvertToVersion(pod, hub)
	if err != nil {
		t.Fatalf("convert to hub: %v", err)
	}
	if _, ok := out.(*corev1.Pod); !ok {
		t.Fatalf("hub of Pod is %T, want *v1.Pod", out)
	}
	if k := out.GetObjectKind().GroupVersionKind(); !k.Empty() {
		t.Fatalf("hub object says %s, want no kind", k)
	}
}

func TestLegacyCodecStoresVersionAndKind(t *testing.T) {
	codec := Codecs.LegacyCodec(corev1.SchemeGroupVersion)
	raw, err := runtime.Encode(codec, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}})
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	var tm metav1.TypeMeta
	u, err := runtime.Decode(Codecs.UniversalDeserializer(), raw)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	tm.SetGroupVersionKind(u.GetObjectKind().GroupVersionKind())
	if tm.APIVersion != "v1" || tm.Kind != "Pod" {
		t.Fatalf("stored as %s %s, want v1 Pod:\n%s", tm.APIVersion, tm.Kind, raw)
	}
}

func TestScaleKinds(t *testing.T) {
	for _, v := range []string{"v1", runtime.APIVersionInternal} {
		obj, err := Scheme.New(schema.GroupVersionKind{Group: "autoscaling", Version: v, Kind: "Scale"})
		if err != nil {
			t.Fatalf("new Scale in %s: %v", v, err)
		}
		if _, ok := obj.(*autoscalingv1.Scale); !ok {
			t.Fatalf("Scale in %s is %T", v, obj)
		}
	}
}

func TestEventHub(t *testing.T) {
	when := metav1.NewMicroTime(time.Unix(1700000000, 5000).UTC())
	in := &eventsv1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "events.k8s.io/v1", Kind: "Event"},
		ObjectMeta:          metav1.ObjectMeta{Name: "e", Namespace: "default"},
		EventTime:           when,
		Series:              &eventsv1.EventSeries{Count: 3, LastObservedTime: when},
		ReportingController: "coracle.dev/agent", ReportingInstance: "n1", Action: "Pulling", Reason: "Pulled",
		Regarding: corev1.ObjectReference{Kind: "Pod", Name: "p", Namespace: "default"},
		Note:      "pulled", Type: "Normal", DeprecatedCount: 4,
	}
	codec := Codecs.LegacyCodec(eventsv1.SchemeGroupVersion)
	raw, err := runtime.Encode(codec, in.DeepCopy())
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	hub, err := runtime.Decode(codec, raw)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	core, ok := hub.(*corev1.Event)
	if !ok {
		t.Fatalf("hub of events.k8s.io Event is %T, want *core/v1.Event", hub)
	}
	if core.Message != "pulled" || core.InvolvedObject.Name != "p" || core.Series.Count != 3 || core.Count != 4 {
		t.Fatalf("conversion lost fields: %+v", core)
	}
	back, err := Scheme.ConvertToVersion(core, eventsv1.SchemeGroupVersion)
	if err != nil {
		t.Fatalf("convert back: %v", err)
	}
	if !equality.Semantic.DeepEqual(back, in) {
		t.Fatalf("there and back gives\n%+v, want\n%+v", back, in)
	}
	// The stored form is core/v1.
	raw, err = runtime.Encode(Codecs.LegacyCodec(corev1.SchemeGroupVersion), core)
	if err != nil {
		t.Fatalf("encode as core: %v", err)
	}
	var legacy corev1.Event
	if _, gvk, err := Codecs.UniversalDeserializer().Decode(raw, nil, &legacy); err != nil || gvk.Group != "" {
		t.Fatalf("stored form is %v (%v), want core/v1", gvk, err)
	}
}

func TestLogOptionsFromQuery(t *testing.T) {
	q := url.Values{"container": {"c"}, "follow": {"true"}, "tailLines": {"5"}, "timestamps": {""}, "previous": {"false"}, "sinceTime": {"2024-01-02T03:04:05Z"}}
	var got corev1.PodLogOptions
	if err := ParameterCodec.DecodeParameters(q, corev1.SchemeGroupVersion, &got); err != nil {
		t.Fatalf("decode: %v", err)
	}
	if got.Container != "c" || !got.Follow || got.TailLines == nil || *got.TailLines != 5 || !got.Timestamps || got.Previous || got.SinceTime == nil || got.SinceTime.Year() != 2024 {
		t.Fatalf("got %+v", got)
	}
	if err := ParameterCodec.DecodeParameters(url.Values{"tailLines": {"x"}}, corev1.SchemeGroupVersion, &got); err == nil {
		t.Fatal("tailLines=x was taken")
	}
	var exec corev1.PodExecOptions
	if err := ParameterCodec.DecodeParameters(url.Values{"command": {"ls", "-l"}, "stdin": {"1"}}, corev1.SchemeGroupVersion, &exec); err != nil {
		t.Fatalf("decode exec: %v", err)
	}
	if len(exec.Command) != 2 || !exec.Stdin || exec.TTY {
		t.Fatalf("exec got %+v", exec)
	}
	var pf corev1.PodPortForwardOptions
	if err := ParameterCodec.DecodeParameters(url.Values{"ports": {"80", "443"}}, corev1.SchemeGroupVersion, &pf); err != nil || len(pf.Ports) != 2 {
		t.Fatalf("portforward got %+v, %v", pf, err)
	}
}

func TestFieldLabels(t *testing.T) {
	tests := []struct {
		gvk         schema.GroupVersionKind
		label, want string
	}{
		{corev1.SchemeGroupVersion.WithKind("Pod"), "spec.nodeName", "spec.nodeName"},
		{corev1.SchemeGroupVersion.WithKind("Pod"), "spec.host", "spec.nodeName"},
		{corev1.SchemeGroupVersion.WithKind("Pod"), "status.qosClass", ""},
		{corev1.SchemeGroupVersion.WithKind("ConfigMap"), "metadata.name", "metadata.name"},
		{corev1.SchemeGroupVersion.WithKind("ConfigMap"), "type", ""},
		{corev1.SchemeGroupVersion.WithKind("Event"), "involvedObject.uid", "involvedObject.uid"},
		{eventsv1.SchemeGroupVersion.WithKind("Event"), "regarding.uid", "involvedObject.uid"},
		{eventsv1.SchemeGroupVersion.WithKind("Event"), "involvedObject.uid", ""},
		{corev1.SchemeGroupVersion.WithKind("Secret"), "type", "type"},
	}
	refusals := map[string]string{
		"status.qosClass":    "field label not supported: status.qosClass",
		"involvedObject.uid": "field label not supported: involvedObject.uid",
		"type":               `"type" is not a known field selector: only "metadata.name", "metadata.namespace"`,
	}
	for _, tc := range tests {
		got, _, err := Scheme.ConvertFieldLabel(tc.gvk, tc.label, "v")
		if err != nil && err.Error() != refusals[tc.label] {
			t.Errorf("%s %s: refused with %q, want %q", tc.gvk.Kind, tc.label, err, refusals[tc.label])
		}
		if (err != nil) != (tc.want == "") || got != tc.want {
			t.Errorf("%s %s: got %q, %v; want %q", tc.gvk.Kind, tc.label, got, err, tc.want)
		}
	}
}
