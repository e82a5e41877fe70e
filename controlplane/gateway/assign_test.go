package gateway

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	nodev1 "coracle/proto/node/v1"
)

// model is a cluster in memory: a world for the view.
type model map[key]any

func (m model) pods(node string) ([]*v1.Pod, error) {
	var out []*v1.Pod
	for _, o := range m {
		if p, ok := o.(*v1.Pod); ok && p.Spec.NodeName == node {
			out = append(out, p)
		}
	}
	return out, nil
}

func (m model) services() ([]*v1.Service, error) {
	var out []*v1.Service
	for _, o := range m {
		if s, ok := o.(*v1.Service); ok {
			out = append(out, s)
		}
	}
	return out, nil
}

func (m model) object(k key) (any, bool, error) { o, ok := m[k]; return o, ok, nil }

// wanted is what a node is to hold, said in the plainest way.
func (m model) wanted(t interface{ Fatal(...any) }, node string) map[key]string {
	out := map[key]string{}
	add := func(k key) {
		if o, ok := m[k]; ok {
			it, err := encode(o)
			if err != nil {
				t.Fatal(err)
			}
			out[k] = it.token
		}
	}
	for k, o := range m {
		switch o := o.(type) {
		case *v1.Pod:
			if o.Spec.NodeName == node {
				add(k)
				for _, ref := range references(o) {
					add(ref)
				}
			}
		case *v1.Service:
			add(k)
		case *v1.Node:
			if o.Name == node {
				add(k)
			}
		}
	}
	return out
}

// holder is a node's store.
type holder map[key]string

func (h holder) apply(msgs []*nodev1.GatewayMessage) {
	for _, m := range msgs {
		if a := m.GetAssign(); a != nil {
			h[keyOf(a)] = a.GetResourceVersion()
		}
		if r := m.GetRemove(); r != nil {
			delete(h, keyOf(r))
		}
	}
}

func (h holder) held() []*nodev1.Object {
	var out []*nodev1.Object
	for k, token := range h {
		out = append(out, &nodev1.Object{Kind: k.kind, Namespace: k.namespace, Name: k.name, Uid: k.uid, ResourceVersion: token})
	}
	return out
}

// Whatever happens in the cluster, in whatever order it is heard of and however often the
// connection breaks, the node ends with what it is to hold and nothing else; and when it
// holds that, nothing is sent.
func TestViewConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const node = "n1"
		m, h, v := model{}, holder{}, newView(node)
		connected := false
		var unheard []key // changes the view has not been told of yet
		touch := func(k key) {
			if connected && !slices.Contains(unheard, k) {
				unheard = append(unheard, k)
			}
		}
		check := func() {
			for _, k := range unheard {
				msgs, err := v.change(k, m)
				if err != nil {
					rt.Fatal(err)
				}
				h.apply(msgs)
			}
			unheard = nil
			if diff := cmp.Diff(m.wanted(rt, node), map[key]string(h), cmp.AllowUnexported(key{})); connected && diff != "" {
				rt.Fatalf("the node holds something else (-want +got):\n%s", diff)
			}
		}
		counter := 0
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) {},
			"pod": func(rt *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name")
				k := key{kindPod, "d", name, rapid.SampledFrom([]string{"u1", "u2"}).Draw(rt, "uid")}
				p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, UID: types.UID(k.uid)}}
				p.Spec.NodeName = rapid.SampledFrom([]string{"n1", "n2", ""}).Draw(rt, "node")
				for _, ref := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"x", "y"}), rapid.ID).Draw(rt, "refs") {
					p.Spec.Volumes = append(p.Spec.Volumes,
						v1.Volume{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: ref}}}},
						v1.Volume{VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: ref}}})
				}
				m[k] = p
				touch(k)
			},
			"object": func(rt *rapid.T) {
				counter++
				name := rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "name")
				meta := metav1.ObjectMeta{Namespace: "d", Name: name, Labels: map[string]string{"v": fmt.Sprint(counter)}}
				var k key
				switch rapid.IntRange(0, 3).Draw(rt, "kind") {
				case 0:
					k = key{kind: kindConfigMap, namespace: "d", name: name}
					m[k] = &v1.ConfigMap{ObjectMeta: meta}
				case 1:
					k = key{kind: kindSecret, namespace: "d", name: name}
					m[k] = &v1.Secret{ObjectMeta: meta}
				case 2:
					k = key{kind: kindService, namespace: "d", name: name}
					m[k] = &v1.Service{ObjectMeta: meta}
				case 3:
					meta.Namespace, meta.Name = "", rapid.SampledFrom([]string{"n1", "n2"}).Draw(rt, "node")
					k = key{kind: kindNode, name: meta.Name}
					m[k] = &v1.Node{ObjectMeta: meta}
				}
				touch(k)
			},
			"delete": func(rt *rapid.T) {
				if len(m) == 0 {
					return
				}
				keys := slices.SortedFunc(maps.Keys(m), func(a, b key) int { return slices.Compare([]byte(a.String()), []byte(b.String())) })
				k := rapid.SampledFrom(keys).Draw(rt, "key")
				delete(m, k)
				touch(k)
			},
			"hear": func(*rapid.T) { check() },
			"disconnect": func(rt *rapid.T) {
				connected, unheard = false, nil
				if rapid.Bool().Draw(rt, "store lost") {
					h = holder{}
				}
			},
			"connect": func(*rapid.T) {
				v, unheard = newView(node), nil
				msgs, err := v.begin(h.held(), m)
				if err != nil {
					rt.Fatal(err)
				}
				h.apply(msgs)
				connected = true
				check()
				again, err := newView(node).begin(h.held(), m)
				if err != nil || len(again) != 0 {
					rt.Fatalf("a node that holds everything was sent %d messages (%v)", len(again), err)
				}
			},
		})
	})
}

func TestStatusAndVersionsDoNotChangeTheToken(t *testing.T) {
	p := testPod("web", "u1", "n1")
	token := func() string {
		it, err := encode(p)
		if err != nil {
			t.Fatal(err)
		}
		return it.token
	}
	before := token()
	p.ResourceVersion = "77"
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	p.Status = running("10.0.0.1")
	if token() != before {
		t.Error("a status of the node's own would come back to it")
	}
	if p.ResourceVersion != "77" || len(p.ManagedFields) != 1 || p.Status.PodIP == "" {
		t.Error("the informer's object was changed")
	}
	p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	gated := token()
	p.Status.Conditions = append(p.Status.Conditions, v1.PodCondition{Type: "example.com/gate", Status: v1.ConditionTrue})
	if token() == gated {
		t.Error("a readiness gate that opens does not reach the node")
	}
	p.DeletionTimestamp = &metav1.Time{}
	p.Labels = map[string]string{"a": "b"}
	if token() == gated {
		t.Error("labels do not reach the node")
	}
}

func TestReferences(t *testing.T) {
	ref := func(name string) v1.LocalObjectReference { return v1.LocalObjectReference{Name: name} }
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d"}, Spec: v1.PodSpec{
		RuntimeClassName: ptr.To("class"),
		ImagePullSecrets: []v1.LocalObjectReference{ref("pull")},
		InitContainers:   []v1.Container{{Env: []v1.EnvVar{{ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: ref("init")}}}}}},
		Containers: []v1.Container{{
			Env:     []v1.EnvVar{{Name: "plain"}, {ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: ref("env")}}}},
			EnvFrom: []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: ref("from")}}, {ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: ref("env")}}},
		}},
		EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{EnvFrom: []v1.EnvFromSource{{SecretRef: &v1.SecretEnvSource{LocalObjectReference: ref("debug")}}}}}},
		Volumes: []v1.Volume{
			{VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "vol"}}},
			{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: ref("vol")}}},
			{VolumeSource: v1.VolumeSource{CSI: &v1.CSIVolumeSource{NodePublishSecretRef: &v1.LocalObjectReference{Name: "csi"}}}},
			{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
				{Secret: &v1.SecretProjection{LocalObjectReference: ref("p")}}, {ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: ref("p")}},
			}}}},
			{VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
		},
	}}
	var got []string
	for _, k := range references(p) {
		got = append(got, k.kind+" "+k.name)
	}
	want := []string{"RuntimeClass class", "Secret pull", "Secret init", "ConfigMap env", "Secret from", "Secret debug", "Secret vol", "ConfigMap vol", "Secret csi", "Secret p", "ConfigMap p"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
