package namespace

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	now  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	jobs = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
)

func TestPlan(t *testing.T) {
	for name, tc := range map[string]struct {
		found    Content
		finalize bool
		again    time.Duration
		says     []string // of the conditions that are true
	}{
		"nothing left": {Content{}, true, 0, nil},
		"pods end by themselves": {
			Content{Left: map[schema.GroupVersionResource]Remaining{pods: {Count: 2, Wait: 10 * time.Second}}}, false, 10 * time.Second,
			[]string{"NamespaceContentRemaining SomeResourcesRemain Some resources are remaining: pods. has 2 resource instances"},
		},
		"very slow pods are looked at before": {Content{Left: map[schema.GroupVersionResource]Remaining{pods: {Count: 1, Wait: time.Hour}}}, false, waitCap, []string{"NamespaceContentRemaining"}},
		"finalizers of others": {
			Content{Left: map[schema.GroupVersionResource]Remaining{
				jobs: {Count: 1, Finalizers: map[string]int{"x/y": 1}}, pods: {Count: 2, Finalizers: map[string]int{"x/y": 2}},
			}}, false, soon,
			[]string{
				"NamespaceContentRemaining SomeResourcesRemain Some resources are remaining: pods. has 2 resource instances, jobs.batch has 1 resource instances",
				"NamespaceFinalizersRemaining SomeFinalizersRemain Some content in the namespace has finalizers remaining: x/y in 3 resource instances",
			},
		},
		"a deletion fails": {
			Content{Failed: map[schema.GroupVersionResource]error{jobs: errors.New("refused")}}, false, soon,
			[]string{"NamespaceDeletionContentFailure ContentDeletionFailed Failed to delete all resource types, 1 remaining: jobs.batch: refused"},
		},
		"a group does not answer: what it hides must not be lost": {
			Content{Discovery: errors.New("metrics away"), Groups: 1}, false, soon,
			[]string{"NamespaceDeletionDiscoveryFailure DiscoveryFailed Discovery failed for some groups, 1 failing: metrics away"},
		},
		"a version nobody understands": {Content{Unparsed: []string{"a/b/c"}}, false, soon, []string{"NamespaceDeletionGroupVersionParsingFailure"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := MakePlan(&corev1.Namespace{}, tc.found, now)
			if out.Finalize != tc.finalize || out.Again != tc.again {
				t.Errorf("finalize %v, again %v", out.Finalize, out.Again)
			}
			var says []string
			for _, c := range out.Conditions {
				if c.Status == corev1.ConditionTrue {
					says = append(says, fmt.Sprintf("%s %s %s", c.Type, c.Reason, c.Message))
				}
			}
			if len(says) != len(tc.says) || len(out.Conditions) != 5 {
				t.Fatalf("of %d conditions these are true: %q", len(out.Conditions), says)
			}
			for i := range says {
				if !strings.HasPrefix(says[i], tc.says[i]) {
					t.Errorf("got  %s\nwant %s", says[i], tc.says[i])
				}
			}
			ns := &corev1.Namespace{}
			ns.Status.Conditions = out.Conditions
			for i, c := range MakePlan(ns, tc.found, now.Add(time.Hour)).Conditions {
				if c != out.Conditions[i] {
					t.Errorf("the same findings change %+v to %+v", out.Conditions[i], c)
				}
			}
		})
	}
}
