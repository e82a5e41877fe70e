package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"coracle/agent/evict"
)

// Eviction is what the fields that begin with Eviction say.
func (c *Config) Eviction() (evict.Settings, error) {
	return evict.Parse(evict.Text{
		Hard: c.EvictionHard, Soft: c.EvictionSoft, SoftGrace: c.EvictionSoftGracePeriod, Reclaim: c.EvictionMinimumReclaim,
		MaxGrace: c.EvictionMaxPodGracePeriod, Hold: c.EvictionPressureTransitionPeriod,
	})
}

// criticalPriority is that of system-cluster-critical.
const criticalPriority = 2000000000

// ShutdownGraces are the groups in which pods end when the machine shuts down, lowest priority first; empty: it does not wait for pods.
func (c *Config) ShutdownGraces() ([]PriorityGrace, error) {
	var errs []error
	period := func(field, text string) time.Duration {
		d, err := time.ParseDuration(cmp.Or(text, "0s"))
		if err != nil || d < 0 || d != 0 && d < time.Second {
			errs = append(errs, fmt.Errorf("%s: must be 0s or a time from 1s on, not %q", field, text))
		}
		return d
	}
	all := period("shutdownGracePeriod", c.ShutdownGracePeriod)
	critical := period("shutdownGracePeriodCriticalPods", c.ShutdownGracePeriodCriticalPods)
	if critical > all {
		errs = append(errs, errors.New("shutdownGracePeriodCriticalPods: is a part of shutdownGracePeriod and must not be longer"))
	}
	groups := slices.Clone(c.ShutdownGracePeriodByPodPriority)
	if len(groups) > 0 && (all > 0 || critical > 0) {
		errs = append(errs, errors.New("shutdownGracePeriodByPodPriority: takes the place of shutdownGracePeriod and shutdownGracePeriodCriticalPods; set it or them"))
	}
	slices.SortFunc(groups, func(a, b PriorityGrace) int { return cmp.Compare(a.Priority, b.Priority) })
	for i, g := range groups {
		if g.ShutdownGracePeriodSeconds < 0 {
			errs = append(errs, fmt.Errorf("shutdownGracePeriodByPodPriority: priority %d has %d seconds", g.Priority, g.ShutdownGracePeriodSeconds))
		}
		if i > 0 && groups[i-1].Priority == g.Priority {
			errs = append(errs, fmt.Errorf("shutdownGracePeriodByPodPriority: names priority %d twice", g.Priority))
		}
	}
	if len(groups) == 0 && all > 0 {
		groups = []PriorityGrace{
			{Priority: 0, ShutdownGracePeriodSeconds: int64((all - critical) / time.Second)},
			{Priority: criticalPriority, ShutdownGracePeriodSeconds: int64(critical / time.Second)},
		}
	}
	return groups, errors.Join(errs...)
}

// priorityGraces is the flag of ShutdownGracePeriodByPodPriority.
type priorityGraces []PriorityGrace

// String implements pflag.Value.
func (g *priorityGraces) String() string {
	var parts []string
	for _, p := range *g {
		parts = append(parts, fmt.Sprintf("%d=%d", p.Priority, p.ShutdownGracePeriodSeconds))
	}
	return strings.Join(parts, ",")
}

// Set implements pflag.Value.
func (g *priorityGraces) Set(text string) error {
	var out []PriorityGrace
	for part := range strings.SplitSeq(text, ",") {
		left, right, _ := strings.Cut(part, "=")
		priority, err := strconv.ParseInt(left, 10, 32)
		seconds, err2 := strconv.ParseInt(right, 10, 64)
		if err != nil || err2 != nil {
			return fmt.Errorf("%q is not PRIORITY=SECONDS", part)
		}
		out = append(out, PriorityGrace{Priority: int32(priority), ShutdownGracePeriodSeconds: seconds})
	}
	*g = out
	return nil
}

// Type implements pflag.Value.
func (g *priorityGraces) Type() string { return "stringToInt" }
