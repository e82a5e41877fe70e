package config

import (
	"slices"
	"strings"
	"testing"
)

func TestShutdownGraces(t *testing.T) {
	for name, test := range map[string]struct {
		set  func(c *Config)
		want []PriorityGrace
		err  string
	}{
		"off":         {func(*Config) {}, nil, ""},
		"two periods": {func(c *Config) { c.ShutdownGracePeriod, c.ShutdownGracePeriodCriticalPods = "30s", "10s" }, []PriorityGrace{{0, 20}, {2000000000, 10}}, ""},
		"by priority": {func(c *Config) {
			c.ShutdownGracePeriodByPodPriority = []PriorityGrace{{1000, 60}, {0, 20}}
		}, []PriorityGrace{{0, 20}, {1000, 60}}, ""},
		"both": {func(c *Config) {
			c.ShutdownGracePeriod, c.ShutdownGracePeriodByPodPriority = "30s", []PriorityGrace{{0, 20}}
		}, nil, "set it or them"},
		"critical longer": {func(c *Config) { c.ShutdownGracePeriodCriticalPods = "10s" }, nil, "must not be longer"},
		"too short":       {func(c *Config) { c.ShutdownGracePeriod = "10ms" }, nil, "from 1s on"},
		"twice":           {func(c *Config) { c.ShutdownGracePeriodByPodPriority = []PriorityGrace{{1, 2}, {1, 3}} }, nil, "twice"},
	} {
		c := Default()
		test.set(&c)
		got, err := c.ShutdownGraces()
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) || c.Validate() == nil {
				t.Errorf("%s: %v, want %q", name, err, test.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestEvictionFromFile(t *testing.T) {
	c := Default()
	if err := Parse([]byte("evictionHard: {memory.available: 5%}\nevictionMinimumReclaim: {nodefs.available: 1Gi}\n"), &c); err != nil {
		t.Fatal(err)
	}
	s, err := c.Eviction()
	if err != nil || len(s.Thresholds) != 5 || s.Thresholds[0].Limit.Share != 0.05 || s.Thresholds[1].Reclaim.Value != 1<<30 {
		t.Errorf("%+v, %v", s, err)
	}
	c.EvictionHard["memory.free"] = "1"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), `evictionHard: "memory.free"`) {
		t.Errorf("validation: %v", err)
	}
}

// FuzzPriorityGraces: what the flag takes it prints so that it takes it again.
func FuzzPriorityGraces(f *testing.F) {
	for _, s := range []string{"0=10,1000=20", "", "1", "a=b", "-5=3", "99999999999=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var g, back priorityGraces
		if g.Set(text) != nil {
			return
		}
		if err := back.Set(g.String()); err != nil || !slices.Equal(g, back) {
			t.Errorf("%q is %v, and then %v, %v", text, g, back, err)
		}
	})
}
