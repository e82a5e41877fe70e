package device

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func set(ids string) map[string]bool {
	out := map[string]bool{}
	for _, id := range strings.Fields(ids) {
		out[id] = true
	}
	return out
}

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		name                     string
		healthy, taken, reusable string
		sick                     string
		preferred                []string
		count                    int
		want                     string
		err                      string
	}{
		{name: "by id", healthy: "c a b", count: 2, want: "a b"},
		{name: "not those of others", healthy: "a b c", taken: "a", count: 2, want: "b c"},
		{name: "not the sick", healthy: "a b", sick: "0", count: 1, want: "a"},
		{name: "preferred first", healthy: "a b c", preferred: []string{"c"}, count: 2, want: "a c"},
		{name: "preferred but taken", healthy: "a b c", taken: "c", preferred: []string{"c", "b"}, count: 1, want: "b"},
		{name: "preferred twice and unheard of", healthy: "a b", preferred: []string{"b", "b", "z"}, count: 2, want: "a b"},
		{name: "more preferred than asked", healthy: "a b c", preferred: []string{"c", "b", "a"}, count: 1, want: "c"},
		{name: "of an init container", healthy: "a b c", taken: "c", reusable: "c", count: 1, want: "c"},
		{name: "of an init container and more", healthy: "a b c", taken: "c", reusable: "c", count: 2, want: "a c"},
		{name: "fewer than an init container", healthy: "a b c", taken: "b c", reusable: "b c", count: 1, want: "b"},
		{name: "sick since the init container", healthy: "a", taken: "c", reusable: "c", sick: "c", count: 1, want: "a"},
		{
			name: "short", healthy: "a b", taken: "a", count: 2,
			err: "requested number of devices unavailable for example.com/dev. Requested: 2, Available: 1",
		},
		{
			name: "short of the rest", healthy: "a b", taken: "a b", reusable: "a", count: 2,
			err: "requested number of devices unavailable for example.com/dev. Requested: 1, Available: 0",
		},
	} {
		o := offer{healthy: set(test.healthy), taken: set(test.taken), reusable: set(test.reusable)}
		for id := range set(test.sick) {
			o.healthy[id] = false
		}
		over, free, err := o.split("example.com/dev", test.count)
		if fmt.Sprint(err) != test.err && (err != nil || test.err != "") {
			t.Errorf("%s: error %v, want %s", test.name, err, test.err)
			continue
		}
		if err != nil {
			continue
		}
		if got := strings.Join(choose(test.count, over, free, test.preferred), " "); got != test.want {
			t.Errorf("%s: chose %s, want %s", test.name, got, test.want)
		}
	}
}

// Whatever there is and whatever a plugin prefers: as many as asked for, each once, healthy, and nobody else's; and the
// error only where there are too few.
func TestChooseProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		flags := rapid.MapOf(id, rapid.Bool())
		o := offer{healthy: flags.Draw(t, "healthy"), taken: flags.Draw(t, "taken"), reusable: flags.Draw(t, "reusable")}
		for d, reuse := range o.reusable { // those that a pod takes over are its own
			o.taken[d] = o.taken[d] || reuse
		}
		count, preferred := rapid.IntRange(1, 4).Draw(t, "count"), rapid.SliceOf(id).Draw(t, "preferred")
		may := func(d string) bool { return o.healthy[d] && (!o.taken[d] || o.reusable[d]) }
		able := 0
		for d := range o.healthy {
			if may(d) {
				able++
			}
		}
		over, free, err := o.split("r", count)
		if (err == nil) != (able >= count) {
			t.Fatalf("%d of %d could be given, and the error is %v", able, count, err)
		}
		if err != nil {
			return
		}
		got := choose(count, over, free, preferred)
		if len(got) != count || len(slices.Compact(slices.Clone(got))) != count || !slices.IsSorted(got) {
			t.Fatalf("asked for %d and got %v", count, got)
		}
		reused := 0
		for _, d := range got {
			if !may(d) {
				t.Fatalf("%s was given, from %+v", d, o)
			}
			if o.reusable[d] {
				reused++
			}
		}
		if reused < min(count, len(over)) {
			t.Fatalf("%d of %v were taken over: %v", reused, over, got)
		}
	})
}
