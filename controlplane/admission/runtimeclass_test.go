package admission

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

func overhead(cpu string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
}

func class() *nodev1.RuntimeClass {
	return &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "vm"}, Handler: "kata", Overhead: &nodev1.Overhead{PodFixed: overhead("250m")},
		Scheduling: &nodev1.Scheduling{
			NodeSelector: map[string]string{"vm": "yes"},
			Tolerations:  []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpExists}},
		},
	}
}

func TestRuntimeClass(t *testing.T) {
	plain := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Handler: "runc"}
	c := chain(t, account("default", nil), class(), plain)
	for name, tc := range map[string]struct {
		change   func(*corev1.Pod)
		refused  string
		overhead corev1.ResourceList
		selector map[string]string
		tolerate []string
	}{
		"none":          {func(*corev1.Pod) {}, "", nil, nil, nil},
		"plain":         {func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("plain") }, "", nil, nil, nil},
		"unknown class": {func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("gone") }, `pod rejected: RuntimeClass "gone" not found`, nil, nil, nil},
		"whole":         {func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr.To("vm") }, "", overhead("250m"), map[string]string{"vm": "yes"}, []string{"vm"}},
		"agreeing": {func(p *corev1.Pod) {
			p.Spec.RuntimeClassName, p.Spec.Overhead = ptr.To("vm"), overhead("0.25")
			p.Spec.NodeSelector = map[string]string{"vm": "yes", "disk": "ssd"}
			p.Spec.Tolerations = []corev1.Toleration{{Key: "vm", Operator: corev1.TolerationOpEqual, Value: "x"}, {Key: "own", Operator: corev1.TolerationOpExists}}
		}, "", overhead("250m"), map[string]string{"vm": "yes", "disk": "ssd"}, []string{"own", "vm"}},
		"other overhead": {func(p *corev1.Pod) { p.Spec.RuntimeClassName, p.Spec.Overhead = ptr.To("vm"), overhead("1") }, "doesn't match", nil, nil, nil},
		"overhead without class": {func(p *corev1.Pod) { p.Spec.Overhead = overhead("1") },
			"Pod Overhead set without corresponding RuntimeClass defined Overhead", nil, nil, nil},
		"overhead without the class's": {func(p *corev1.Pod) { p.Spec.RuntimeClassName, p.Spec.Overhead = ptr.To("plain"), overhead("1") },
			"Pod Overhead set without corresponding RuntimeClass defined Overhead", nil, nil, nil},
		"other selector": {func(p *corev1.Pod) {
			p.Spec.RuntimeClassName, p.Spec.NodeSelector = ptr.To("vm"), map[string]string{"vm": "no"}
		}, "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no", nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(tc.change)
			err := admit(t, c, request{op: admission.Create, resource: pods, obj: pod, kind: "Pod"})
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Fatalf("got %v, want a refusal with %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !apiequality.Semantic.DeepEqual(pod.Spec.Overhead, tc.overhead) || !maps.Equal(pod.Spec.NodeSelector, tc.selector) {
				t.Errorf("overhead %v, selector %v", pod.Spec.Overhead, pod.Spec.NodeSelector)
			}
			var keys []string
			for _, toleration := range pod.Spec.Tolerations {
				if !strings.HasPrefix(toleration.Key, "node.kubernetes.io/") {
					keys = append(keys, toleration.Key)
				}
			}
			if strings.Join(keys, " ") != strings.Join(tc.tolerate, " ") {
				t.Errorf("tolerates %v, want %v", keys, tc.tolerate)
			}
		})
	}
	// A stored pod keeps what it got, whatever became of the class.
	pod := newPod(func(p *corev1.Pod) { p.Spec.RuntimeClassName, p.Spec.Overhead = ptr.To("gone"), overhead("1") })
	if err := admit(t, c, request{op: admission.Update, resource: pods, obj: pod, old: pod.DeepCopy(), kind: "Pod"}); err != nil {
		t.Errorf("update: %v", err)
	}
}

// TestMergedTolerations: nothing that was tolerated is lost, and merging again changes nothing.
func TestMergedTolerations(t *testing.T) {
	one := rapid.Custom(func(t *rapid.T) corev1.Toleration {
		out := corev1.Toleration{
			Key:      rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]corev1.TolerationOperator{"", corev1.TolerationOpEqual, corev1.TolerationOpExists}).Draw(t, "operator"),
			Effect:   rapid.SampledFrom([]corev1.TaintEffect{"", corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}).Draw(t, "effect"),
		}
		if out.Operator != corev1.TolerationOpExists {
			out.Value = rapid.SampledFrom([]string{"", "x"}).Draw(t, "value")
		}
		if rapid.Bool().Draw(t, "timed") {
			out.TolerationSeconds = ptr.To(rapid.Int64Range(0, 3).Draw(t, "seconds"))
		}
		return out
	})
	rapid.Check(t, func(t *rapid.T) {
		pod, class := rapid.SliceOfN(one, 0, 4).Draw(t, "pod"), rapid.SliceOfN(one, 0, 4).Draw(t, "class")
		merged := mergeTolerations(pod, class)
		for _, want := range append(pod[:len(pod):len(pod)], class...) {
			if !coveredBy(merged, want, false) {
				t.Fatalf("%v is lost in %v", want, merged)
			}
		}
		if again := mergeTolerations(merged, nil); !apiequality.Semantic.DeepEqual(again, merged) {
			t.Fatalf("merged again: %v, want %v", again, merged)
		}
	})
}
