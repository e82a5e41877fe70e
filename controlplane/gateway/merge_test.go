package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

var (
	early = metav1.NewTime(time.Unix(1000, 0))
	late  = metav1.NewTime(time.Unix(2000, 0))
)

func cond(t v1.PodConditionType, s v1.ConditionStatus, at metav1.Time) v1.PodCondition {
	return v1.PodCondition{Type: t, Status: s, LastTransitionTime: at}
}

func TestMergePodStatus(t *testing.T) {
	for name, tc := range map[string]struct{ have, reported, want v1.PodStatus }{
		"conditions of others are kept, times move only with the status": {
			have: v1.PodStatus{Phase: v1.PodPending, NominatedNodeName: "x", QOSClass: v1.PodQOSBurstable, Conditions: []v1.PodCondition{
				cond(v1.PodScheduled, v1.ConditionTrue, early), cond(v1.PodReady, v1.ConditionTrue, early), cond("example.com/gate", v1.ConditionFalse, early),
			}},
			reported: v1.PodStatus{Phase: v1.PodRunning, StartTime: &late, Conditions: []v1.PodCondition{
				cond(v1.PodReady, v1.ConditionTrue, late), cond(v1.ContainersReady, v1.ConditionTrue, late), cond(v1.PodScheduled, v1.ConditionTrue, late),
			}},
			want: v1.PodStatus{Phase: v1.PodRunning, NominatedNodeName: "x", QOSClass: v1.PodQOSBurstable, StartTime: &late, Conditions: []v1.PodCondition{
				cond(v1.PodScheduled, v1.ConditionTrue, early), cond(v1.PodReady, v1.ConditionTrue, early), cond("example.com/gate", v1.ConditionFalse, early),
				cond(v1.ContainersReady, v1.ConditionTrue, late),
			}},
		},
		"a condition of the agent's that it no longer reports goes": {
			have:     v1.PodStatus{Conditions: []v1.PodCondition{cond(v1.PodResizePending, v1.ConditionTrue, early)}},
			reported: v1.PodStatus{Phase: v1.PodRunning},
			want:     v1.PodStatus{Phase: v1.PodRunning},
		},
		"a start time stays": {
			have: v1.PodStatus{StartTime: &early}, reported: v1.PodStatus{StartTime: &late}, want: v1.PodStatus{StartTime: &early},
		},
		"a finished pod stays finished": {
			have:     v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted", Message: "disk"},
			reported: v1.PodStatus{Phase: v1.PodRunning},
			want:     v1.PodStatus{Phase: v1.PodFailed, Reason: "Evicted", Message: "disk"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, changed := mergePodStatus(&tc.have, &tc.reported)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if wantChange := !cmp.Equal(tc.have, tc.want); changed != wantChange {
				t.Errorf("changed %v, want %v", changed, wantChange)
			}
			if _, again := mergePodStatus(&got, &tc.reported); again {
				t.Error("the same report changes something a second time")
			}
		})
	}
}

func TestMergeSettles(t *testing.T) {
	types := []v1.PodConditionType{v1.PodScheduled, v1.PodReady, v1.ContainersReady, "a", "b"}
	conditions := rapid.Custom(func(rt *rapid.T) []v1.PodCondition {
		var out []v1.PodCondition
		for _, typ := range rapid.SliceOfDistinct(rapid.SampledFrom(types), rapid.ID).Draw(rt, "types") {
			out = append(out, cond(typ, rapid.SampledFrom([]v1.ConditionStatus{v1.ConditionTrue, v1.ConditionFalse}).Draw(rt, "status"), metav1.NewTime(time.Unix(int64(rapid.IntRange(1, 3).Draw(rt, "at")), 0))))
		}
		return out
	})
	rapid.Check(t, func(rt *rapid.T) {
		have, reported := v1.PodStatus{Conditions: conditions.Draw(rt, "have")}, v1.PodStatus{Conditions: conditions.Draw(rt, "reported")}
		got, _ := mergePodStatus(&have, &reported)
		if _, again := mergePodStatus(&got, &reported); again {
			rt.Fatalf("%v reported twice over %v is still a change", reported, have)
		}
		for _, c := range reported.Conditions {
			if merged, ok := podCondition(got.Conditions, c.Type); agentCondition(c.Type) && (!ok || merged.Status != c.Status) {
				rt.Fatalf("%s was reported and is not there", c.Type)
			}
		}
		for _, c := range have.Conditions {
			if merged, ok := podCondition(got.Conditions, c.Type); !agentCondition(c.Type) && (!ok || merged != c) {
				rt.Fatalf("%s of somebody else was changed", c.Type)
			}
		}
	})
}

func TestMergeNodeStatus(t *testing.T) {
	have := v1.NodeStatus{
		Conditions: []v1.NodeCondition{
			{Type: v1.NodeNetworkUnavailable, Status: v1.ConditionFalse},
			{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "r", LastHeartbeatTime: early, LastTransitionTime: early},
		},
		Addresses: []v1.NodeAddress{{Address: "192.0.2.1"}}, VolumesAttached: []v1.AttachedVolume{{Name: "v"}},
	}
	reported := v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "r", LastHeartbeatTime: late, LastTransitionTime: late}}}
	if got, changed := mergeNodeStatus(&have, &reported); changed {
		t.Errorf("a restarted agent changes the node: %s", cmp.Diff(have, got))
	}
	reported.Conditions[0].Status = v1.ConditionFalse
	got, changed := mergeNodeStatus(&have, &reported)
	if !changed || got.Conditions[1].LastTransitionTime != late || len(got.Conditions) != 2 {
		t.Errorf("changed %v, %v", changed, got.Conditions)
	}
}

func TestExtendedResourcesOfOthersStay(t *testing.T) {
	list := func(pairs ...string) v1.ResourceList {
		out := v1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			out[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	have := v1.NodeStatus{
		Capacity:    list("cpu", "2", "hugepages-2Mi", "0", "example.com/dev", "2", "example.com/mine", "5", "scheduling.k8s.io/foo", "3"),
		Allocatable: list("cpu", "2", "example.com/dev", "2", "example.com/mine", "4"),
	}
	reported := v1.NodeStatus{Capacity: list("cpu", "3", "example.com/dev", "0"), Allocatable: list("cpu", "3", "example.com/dev", "0")}
	got, _ := mergeNodeStatus(&have, &reported)
	if diff := cmp.Diff(list("cpu", "3", "example.com/dev", "0", "example.com/mine", "5", "scheduling.k8s.io/foo", "3"), got.Capacity); diff != "" {
		t.Errorf("capacity: %s", diff)
	}
	if diff := cmp.Diff(list("cpu", "3", "example.com/dev", "0", "example.com/mine", "4", "scheduling.k8s.io/foo", "3"), got.Allocatable); diff != "" {
		t.Errorf("allocatable: %s", diff)
	}
	if len(reported.Capacity) != 2 {
		t.Error("the agent's own report was altered")
	}
}

func TestNodeLabels(t *testing.T) {
	allowed, refused := nodeLabels(map[string]string{
		"site": "x", "example.com/a": "b", v1.LabelHostname: "h", v1.LabelTopologyZone: "z", "node.kubernetes.io/x": "", "kubelet.kubernetes.io/x": "",
		"node-restriction.kubernetes.io/x": "", "node-role.kubernetes.io/control-plane": "", "foo.k8s.io/x": "",
	})
	if len(allowed) != 6 {
		t.Errorf("allowed %v", allowed)
	}
	if diff := cmp.Diff([]string{"foo.k8s.io/x", "node-restriction.kubernetes.io/x", "node-role.kubernetes.io/control-plane"}, refused); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasWrittenIsUsedUntilTheInformerHasIt(t *testing.T) {
	at := func(rv string) *v1.Pod {
		return &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: rv}}
	}
	w := written{pods: map[types.UID]*v1.Pod{}}
	if w.newer("u", at("5")) != nil {
		t.Error("something out of nothing")
	}
	w.put(at("9"))
	if got := w.newer("u", at("7")); got == nil || got.ResourceVersion != "9" {
		t.Errorf("got %v", got)
	}
	if got := w.newer("u", nil); got == nil {
		t.Error("the informer has not seen the pod at all")
	}
	w.seen(at("7"), at("8"))
	if w.newer("u", at("8")) == nil {
		t.Error("forgotten too early")
	}
	w.seen(at("8"), at("10")) // 10 is after 9, not before
	if len(w.pods) != 0 {
		t.Error("kept for ever")
	}
	w.put(at("11"))
	w.seen(at("11"), nil)
	if len(w.pods) != 0 {
		t.Error("kept after the pod")
	}
}
