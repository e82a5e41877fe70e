package evict

import (
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// State is what is remembered from one look to the next. The zero value is that of a node nobody has looked at. Values
// are replaced, never changed.
type State struct {
	// since is when each threshold was first met, of those that are met now.
	since map[Threshold]time.Time
	// acted are those that were acted upon in the last look: they count until what they reclaim is free as well.
	acted map[Threshold]bool
	// seen is when each condition was last true by itself.
	seen map[v1.NodeConditionType]time.Time
}

// Decision is what a look comes to.
type Decision struct {
	// Conditions are those that the node is in, in a fixed order.
	Conditions []v1.NodeConditionType
	// Act are the thresholds to do something about now, the most urgent first.
	Act []Threshold
	// Near says that some level is close to a threshold, or below one: look again soon.
	Near bool
}

// conditions in the order in which they are told.
var conditions = []v1.NodeConditionType{v1.NodeMemoryPressure, v1.NodeDiskPressure, v1.NodePIDPressure}

// Plan judges the levels of this moment.
func Plan(s Settings, old State, l Levels, now time.Time) (Decision, State) {
	next := State{since: map[Threshold]time.Time{}, acted: map[Threshold]bool{}, seen: maps.Clone(old.seen)}
	if next.seen == nil {
		next.seen = map[v1.NodeConditionType]time.Time{}
	}
	var d Decision
	for _, t := range s.Thresholds {
		if level, ok := l[t.Signal]; ok && level.Available-t.Limit.of(level.Capacity) < level.Capacity/nearShare {
			d.Near = true
		}
		if t.missing(l, old.acted[t]) <= 0 {
			continue
		}
		began, ok := old.since[t]
		if !ok || began.After(now) { // a clock that was set back begins anew
			began = now
		}
		next.since[t], next.seen[t.Signal.Condition()] = began, now
		if now.Sub(began) >= t.Grace {
			next.acted[t] = true
			d.Act = append(d.Act, t)
		}
	}
	for _, c := range conditions {
		if at, ok := next.seen[c]; ok && (now.Sub(at) < s.Hold || at.Equal(now) || at.After(now)) {
			d.Conditions = append(d.Conditions, c)
		}
	}
	return d, next
}

// nearShare is the part of the capacity that must lie between a level and its threshold for it not to be near: 1/32.
const nearShare = 32

// Refuse is why a new pod is not taken in these conditions; nil: it is. best says that the pod is of the class BestEffort, tolerant that
// it tolerates the taint of memory pressure.
func Refuse(in []v1.NodeConditionType, critical, best, tolerant bool) (message string, refused bool) {
	switch {
	case len(in) == 0, critical:
		return "", false
	case slices.Equal(in, []v1.NodeConditionType{v1.NodeMemoryPressure}) && (!best || tolerant):
		return "", false
	}
	return "The node had condition: " + list(in) + ". ", true
}

// list writes names as Kubernetes prints them: [MemoryPressure DiskPressure].
func list(in []v1.NodeConditionType) string {
	text := "["
	for i, c := range in {
		if i > 0 {
			text += " "
		}
		text += string(c)
	}
	return text + "]"
}
