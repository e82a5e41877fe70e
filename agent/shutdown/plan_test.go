package shutdown

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

func newPod(name string, priority int32) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	p.Spec.Priority = &priority
	return p
}

func text(groups []Group) string {
	var out []string
	for _, g := range groups {
		var names []string
		for _, p := range g.Pods {
			names = append(names, p.Name)
		}
		out = append(out, fmt.Sprintf("%d/%ds: %s", g.Priority, g.Seconds, strings.Join(names, " ")))
	}
	return strings.Join(out, "; ")
}

func TestPlan(t *testing.T) {
	pods := []*v1.Pod{newPod("system", 2000000000), newPod("low", -10), newPod("plain", 0), newPod("high", 1500), {ObjectMeta: metav1.ObjectMeta{Name: "none"}}}
	for name, test := range map[string]struct {
		graces []Grace
		pods   []*v1.Pod
		want   string
	}{
		"two periods":    {[]Grace{{0, 20}, {2000000000, 10}}, pods, "0/20s: low plain high none; 2000000000/10s: system"},
		"in any order":   {[]Grace{{2000000000, 10}, {1000, 60}, {0, 20}}, pods, "0/20s: low plain none; 1000/60s: high; 2000000000/10s: system"},
		"none reached":   {[]Grace{{5000, 7}, {6000, 8}}, []*v1.Pod{newPod("a", 1)}, "5000/7s: a"},
		"nobody is left": {[]Grace{{0, 20}}, nil, ""},
		"nothing asked":  {nil, pods, ""},
	} {
		if got := text(Plan(test.graces, test.pods)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestPlanProperties: every pod ends once, and never after one of a higher group.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var graces []Grace
		for _, p := range rapid.SliceOfNDistinct(rapid.Int32Range(-5, 5), 1, 5, rapid.ID[int32]).Draw(t, "priorities") {
			graces = append(graces, Grace{p, rapid.Int64Range(0, 60).Draw(t, "seconds")})
		}
		var pods []*v1.Pod
		for i := range rapid.IntRange(0, 20).Draw(t, "pods") {
			pods = append(pods, newPod(fmt.Sprint(i), rapid.Int32Range(-7, 7).Draw(t, "priority")))
		}
		before := slices.Clone(graces)
		seen, last := map[types.UID]bool{}, int32(-100)
		for _, g := range Plan(graces, pods) {
			if g.Priority <= last || len(g.Pods) == 0 {
				t.Fatalf("group %d after %d, with %d pods", g.Priority, last, len(g.Pods))
			}
			for _, p := range g.Pods {
				if seen[p.UID] {
					t.Fatalf("%s ends twice", p.Name)
				}
				seen[p.UID] = true
				for _, other := range graces {
					if other.Priority > g.Priority && other.Priority <= *p.Spec.Priority {
						t.Fatalf("priority %d ends with %d, though there is %d", *p.Spec.Priority, g.Priority, other.Priority)
					}
				}
			}
			last = g.Priority
		}
		if len(seen) != len(pods) || !slices.Equal(before, graces) {
			t.Fatalf("%d of %d pods end; graces %v, were %v", len(seen), len(pods), graces, before)
		}
	})
}
