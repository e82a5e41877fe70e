package evict

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Settings are the limits and how they are treated.
type Settings struct {
	Thresholds []Threshold // most urgent first, hard before soft
	// MaxGrace bounds the grace of pods that go because of a soft limit, in seconds.
	MaxGrace int64
	// Hold keeps a condition after its threshold was last met, so that a node at the edge does not draw pods and
	// push them away by turns.
	Hold time.Duration
}

// Text is Settings as a configuration has them; maps are by signal.
type Text struct {
	Hard, Soft, SoftGrace, Reclaim map[string]string
	MaxGrace                       int64
	Hold                           string
}

// DefaultHard are Kubernetes' hard limits. A signal that a configuration leaves out keeps its limit from here; "0" takes it away.
func DefaultHard() map[string]string {
	return map[string]string{
		string(MemoryAvailable): "100Mi", string(NodefsAvailable): "10%", string(NodefsInodesFree): "5%", string(ImagefsAvailable): "15%",
		string(ImagefsInodesFree): "5%",
	}
}

// Parse reads a configuration, and reports every mistake at once, with the field's name in the file.
func Parse(t Text) (Settings, error) {
	s := Settings{MaxGrace: t.MaxGrace}
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	hard := DefaultHard()
	maps.Copy(hard, t.Hard)
	hardLimits := amounts("evictionHard", hard, fail)
	softLimits := amounts("evictionSoft", t.Soft, fail)
	reclaims := amounts("evictionMinimumReclaim", t.Reclaim, fail)
	graces := durations("evictionSoftGracePeriod", t.SoftGrace, fail)
	for _, signal := range signals {
		if limit, ok := hardLimits[signal]; ok && limit != (Amount{}) {
			s.Thresholds = append(s.Thresholds, Threshold{Signal: signal, Limit: limit, Reclaim: reclaims[signal]})
		}
	}
	for _, signal := range signals {
		limit, ok := softLimits[signal]
		if !ok || limit == (Amount{}) {
			continue
		}
		grace, ok := graces[signal]
		if !ok {
			fail("evictionSoftGracePeriod", "evictionSoft names %s, which needs a grace period here, such as 90s", signal)
		}
		s.Thresholds = append(s.Thresholds, Threshold{Signal: signal, Limit: limit, Reclaim: reclaims[signal], Soft: true, Grace: grace})
	}
	slices.SortStableFunc(s.Thresholds, func(a, b Threshold) int {
		return slices.Index(signals, a.Signal) - slices.Index(signals, b.Signal)
	})
	var err error
	if s.Hold, err = time.ParseDuration(t.Hold); err != nil || s.Hold < 0 {
		fail("evictionPressureTransitionPeriod", "must be a time such as 5m, not %q", t.Hold)
	}
	if t.MaxGrace < 0 {
		fail("evictionMaxPodGracePeriod", "must not be negative, is %d", t.MaxGrace)
	}
	return s, errors.Join(errs...)
}

// Kept is what must stay free of memory and disk for the node not to be under pressure: pods cannot have it.
func (s Settings) Kept(capacity v1.ResourceList) v1.ResourceList {
	out := v1.ResourceList{}
	for _, t := range s.Thresholds {
		if r := t.Signal.Resource(); !t.Soft && (t.Signal == MemoryAvailable || t.Signal == NodefsAvailable) {
			q := capacity[r]
			out[r] = *resource.NewQuantity(t.Limit.of(q.Value()), resource.BinarySI)
		}
	}
	return out
}

func amounts(field string, texts map[string]string, fail func(string, string, ...any)) map[Signal]Amount {
	out := map[Signal]Amount{}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if !known(field, name, fail) {
			continue
		}
		a, err := parseAmount(texts[name])
		if err != nil {
			fail(field, "%s: %v", name, err)
			continue
		}
		out[Signal(name)] = a
	}
	return out
}

func durations(field string, texts map[string]string, fail func(string, string, ...any)) map[Signal]time.Duration {
	out := map[Signal]time.Duration{}
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if !known(field, name, fail) {
			continue
		}
		d, err := time.ParseDuration(texts[name])
		if err != nil || d <= 0 {
			fail(field, "%s: must be a time such as 90s, not %q", name, texts[name])
			continue
		}
		out[Signal(name)] = d
	}
	return out
}

func known(field, name string, fail func(string, string, ...any)) bool {
	if slices.Contains(signals, Signal(name)) {
		return true
	}
	var names []string
	for _, s := range signals {
		names = append(names, string(s))
	}
	fail(field, "%q is not one of %s", name, strings.Join(names, ", "))
	return false
}

// parseAmount reads "100Mi" or "10%".
func parseAmount(text string) (Amount, error) {
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil || !(percent >= 0 && percent < 100) { // written so that NaN is refused
			return Amount{}, fmt.Errorf("%q is not a share from 0%% to below 100%%", text)
		}
		return Amount{Share: percent / 100}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil || q.Sign() < 0 {
		return Amount{}, fmt.Errorf("%q is neither an amount such as 100Mi nor a share such as 10%%", text)
	}
	return Amount{Value: q.Value()}, nil
}
