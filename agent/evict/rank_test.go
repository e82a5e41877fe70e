package evict

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"coracle/agent/pod"
)

const mi = 1 << 20

// user is a pod of this priority with one container, which asked for memory and disk (MiB) and uses some.
func user(name string, priority int32, request, used int64) Use {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}}
	p.Spec.Priority = &priority
	c := v1.Container{Name: "c"}
	if request > 0 {
		q := *resource.NewQuantity(request*mi, resource.BinarySI)
		c.Resources.Requests = v1.ResourceList{v1.ResourceMemory: q, v1.ResourceEphemeralStorage: q}
	}
	p.Spec.Containers = []v1.Container{c}
	return Use{Pod: p, Total: used * mi, Frees: used * mi, Containers: map[string]int64{"c": used * mi}}
}

func names(uses []Use) string {
	var out []string
	for _, u := range uses {
		out = append(out, u.Pod.Name)
	}
	return strings.Join(out, " ")
}

func TestRank(t *testing.T) {
	static, deleted := user("static", 0, 0, 900), user("deleted", 0, 0, 900)
	static.Pod.Annotations = map[string]string{pod.SourceAnnotation: "file"}
	deleted.Pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	mirror := user("mirror", 0, 0, 900)
	mirror.Pod.Annotations = map[string]string{v1.MirrorPodAnnotationKey: "x"}
	for name, test := range map[string]struct {
		resource v1.ResourceName
		uses     []Use
		want     string
	}{
		"beyond the request first, whatever the priority": {v1.ResourceMemory,
			[]Use{user("within", -5, 200, 100), user("beyond", 100, 50, 60)}, "beyond within"},
		"then lower priority": {v1.ResourceMemory, []Use{user("high", 10, 0, 500), user("low", 1, 0, 50)}, "low high"},
		"then most beyond the request": {v1.ResourceMemory,
			[]Use{user("asked", 0, 400, 500), user("unasked", 0, 0, 300)}, "unasked asked"},
		"within: nearest to the request": {v1.ResourceMemory, []Use{user("far", 0, 500, 100), user("near", 0, 500, 400)}, "near far"},
		"never static, mirror, critical, deleted": {v1.ResourceMemory,
			[]Use{static, mirror, deleted, user("critical", 2000000000, 0, 900), user("plain", 0, 0, 2)}, "plain"},
		"never what frees nothing":            {v1.ResourceMemory, []Use{user("idle", 0, 0, 0), user("hog", 9, 0, 5)}, "hog"},
		"never what has only cache":           {v1.ResourceMemory, []Use{{Pod: user("cache", 0, 0, 0).Pod, Total: 900 * mi}}, ""},
		"disk as memory":                      {v1.ResourceEphemeralStorage, []Use{user("a", 0, 10, 5), user("b", 5, 1, 5)}, "b a"},
		"inodes are asked for by nobody":      {resourceInodes, []Use{user("a", 5, 10, 5), user("b", 0, 0, 1)}, "b a"},
		"process ids by priority, then count": {resourcePids, []Use{user("few", 0, 0, 1), user("many", 0, 0, 3), user("low", -1, 0, 1)}, "low many few"},
		"nobody there":                        {resourcePids, nil, ""},
	} {
		if got := names(Rank(test.resource, test.uses)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func drawUses(t *rapid.T) []Use {
	var uses []Use
	for i := range rapid.IntRange(0, 12).Draw(t, "pods") {
		u := user(fmt.Sprint(i), rapid.SampledFrom([]int32{-1, 0, 0, 7, 2000000000}).Draw(t, "priority"),
			rapid.Int64Range(0, 9).Draw(t, "request"), rapid.Int64Range(0, 9).Draw(t, "used"))
		if rapid.IntRange(0, 5).Draw(t, "static") == 0 {
			u.Pod.Annotations = map[string]string{pod.SourceAnnotation: "file"}
		}
		uses = append(uses, u)
	}
	return uses
}

// TestRankProperties: the order of the input is irrelevant, nobody goes in vain, none that is critical goes, and each is no worse
// a choice than the one after it.
func TestRankProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.SampledFrom([]v1.ResourceName{v1.ResourceMemory, v1.ResourceEphemeralStorage, resourceInodes, resourcePids}).Draw(t, "resource")
		uses := drawUses(t)
		ranked := Rank(r, uses)
		shuffled := rapid.Permutation(slices.Clone(uses)).Draw(t, "order")
		if a, b := names(ranked), names(Rank(r, shuffled)); a != b {
			t.Fatalf("order matters: %s, %s", a, b)
		}
		for i, u := range ranked {
			if pod.Critical(u.Pod) || u.Total <= 0 {
				t.Fatalf("%s is in the list", u.Pod.Name)
			}
			if i == 0 || r == resourcePids {
				continue
			}
			before := ranked[i-1]
			overBefore, over := before.Total > request(before.Pod, r), u.Total > request(u.Pod, r)
			if over && !overBefore || over == overBefore && priority(u.Pod) < priority(before.Pod) {
				t.Fatalf("%s before %s", before.Pod.Name, u.Pod.Name)
			}
		}
		for _, u := range uses {
			if !pod.Critical(u.Pod) && u.Total >= mi && !slices.ContainsFunc(ranked, func(o Use) bool { return o.Pod.UID == u.Pod.UID }) {
				t.Fatalf("%s would help and is not in the list", u.Pod.Name)
			}
		}
	})
}

func TestEndSaysWhy(t *testing.T) {
	u := user("web", 0, 10, 64)
	levels := Levels{MemoryAvailable: {8 << 30, 50 * mi}, NodefsAvailable: {100 << 30, 5 << 30}, NodefsInodesFree: {1000, 20}}
	for _, test := range []struct {
		threshold Threshold
		grace     int64
		want      string
	}{
		{Threshold{Signal: MemoryAvailable, Limit: Amount{Value: 100 * mi}}, 1,
			"The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 64Mi, request is 10Mi, has larger consumption of memory. "},
		{Threshold{Signal: NodefsAvailable, Limit: Amount{Share: 0.1}, Soft: true}, 20,
			"The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 5Gi. Container c was using 64Mi, request is 10Mi, has larger consumption of ephemeral-storage. "},
		{Threshold{Signal: NodefsInodesFree, Limit: Amount{Share: 0.05}}, 1,
			"The node was low on resource: inodes. Threshold quantity: 50, available: 20. "},
		{Threshold{Signal: PIDAvailable, Limit: Amount{Value: 9}}, 1, "The node was low on resource: pids. "},
	} {
		f := End(test.threshold, levels, u, Settings{MaxGrace: 20})
		if f.Message != test.want || f.Reason != "Evicted" || f.Disruption != v1.PodReasonTerminationByKubelet || ptr.Deref(f.GraceSeconds, -1) != test.grace {
			t.Errorf("%+v, want %q", f, test.want)
		}
	}
}
