// Package namespace empties namespaces that are being deleted and lets go of them once nothing is left.
//
// observe.go finds out what the cluster serves in namespaces and what is left of it; plan.go decides from that
// what to tell in the conditions, whether the namespace may go and when to look again.
package namespace

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Remaining is what is left of one resource after its deletion was asked for.
type Remaining struct {
	Count      int
	Finalizers map[string]int // how many objects carry each
	// Wait is how long the objects may still take by themselves: pods end within their grace period.
	Wait time.Duration
}

// Content is what one pass over a namespace found.
type Content struct {
	// Discovery is why not all resources could be found out: those of an API group that is away may hide
	// objects, so the namespace must stay. Groups are the failing ones, if known.
	Discovery error
	Groups    int
	// Unparsed are group versions that the server names and nobody understands.
	Unparsed []string
	// Failed are resources whose deletion failed, with the reason.
	Failed map[schema.GroupVersionResource]error
	// Left are the resources of which objects remain.
	Left map[schema.GroupVersionResource]Remaining
}

// Outcome is what to do with the namespace after a pass.
type Outcome struct {
	Conditions []corev1.NamespaceCondition // all of the namespace's, in their order
	// Finalize: nothing is left, so the namespace's own finalizer may go.
	Finalize bool
	// Again is when to look again; zero: when something happens.
	Again time.Duration
}

const (
	// soon is the pause between passes while something is left that says nothing of how long it takes.
	soon = 5 * time.Second
	// waitCap bounds the pause: objects may be gone sooner than they may take.
	waitCap = 15 * time.Second
)

// MakePlan decides from what a pass found. It does not change ns.
func MakePlan(ns *corev1.Namespace, found Content, now time.Time) Outcome {
	out := Outcome{Conditions: slices.Clone(ns.Status.Conditions)}
	set := func(kind corev1.NamespaceConditionType, bad bool, good, goodText, badReason, badText string) {
		c := corev1.NamespaceCondition{Type: kind, Status: corev1.ConditionFalse, Reason: good, Message: goodText, LastTransitionTime: metav1.NewTime(now)}
		if bad {
			c.Status, c.Reason, c.Message = corev1.ConditionTrue, badReason, badText
		}
		out.Conditions = upsert(out.Conditions, c)
	}
	set(corev1.NamespaceDeletionDiscoveryFailure, found.Discovery != nil,
		"ResourcesDiscovered", "All resources successfully discovered",
		"DiscoveryFailed", fmt.Sprintf("Discovery failed for some groups, %d failing: %v", found.Groups, found.Discovery))
	set(corev1.NamespaceDeletionGVParsingFailure, len(found.Unparsed) > 0,
		"ParsedGroupVersions", "All legacy kube types successfully parsed",
		"GroupVersionParsingFailed", "Group versions that cannot be read: "+strings.Join(slices.Sorted(slices.Values(found.Unparsed)), ", "))
	set(corev1.NamespaceDeletionContentFailure, len(found.Failed) > 0,
		"ContentDeleted", "All content successfully deleted, may be waiting on finalization",
		"ContentDeletionFailed", failedText(found.Failed))
	left, finalizers := leftText(found.Left)
	set(corev1.NamespaceContentRemaining, left != "",
		"ContentRemoved", "All content successfully removed",
		"SomeResourcesRemain", "Some resources are remaining: "+left)
	set(corev1.NamespaceFinalizersRemaining, finalizers != "",
		"ContentHasNoFinalizers", "All content-preserving finalizers finished",
		"SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+finalizers)
	if found.Discovery == nil && len(found.Unparsed) == 0 && len(found.Failed) == 0 && left == "" {
		out.Finalize = true
		return out
	}
	out.Again = soon
	for _, r := range found.Left {
		out.Again = max(out.Again, min(r.Wait, waitCap))
	}
	return out
}

// upsert keeps the transition time of a condition whose status stays.
func upsert(list []corev1.NamespaceCondition, c corev1.NamespaceCondition) []corev1.NamespaceCondition {
	for i := range list {
		if list[i].Type != c.Type {
			continue
		}
		if list[i].Status == c.Status {
			c.LastTransitionTime = list[i].LastTransitionTime
		}
		list[i] = c
		return list
	}
	return append(list, c)
}

func byName(a, b schema.GroupVersionResource) int { return cmp.Compare(a.String(), b.String()) }

func failedText(failed map[schema.GroupVersionResource]error) string {
	var parts []string
	for _, r := range slices.SortedFunc(maps.Keys(failed), byName) {
		parts = append(parts, fmt.Sprintf("%s: %v", r.GroupResource(), failed[r]))
	}
	return fmt.Sprintf("Failed to delete all resource types, %d remaining: %s", len(failed), strings.Join(parts, ", "))
}

func leftText(left map[schema.GroupVersionResource]Remaining) (resources, finalizers string) {
	var parts, holding []string
	count := map[string]int{}
	for _, r := range slices.SortedFunc(maps.Keys(left), byName) {
		if left[r].Count == 0 {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s.%s has %d resource instances", r.Resource, r.Group, left[r].Count))
		for f, n := range left[r].Finalizers {
			count[f] += n
		}
	}
	for _, f := range slices.Sorted(maps.Keys(count)) {
		holding = append(holding, fmt.Sprintf("%s in %d resource instances", f, count[f]))
	}
	return strings.Join(parts, ", "), strings.Join(holding, ", ")
}
