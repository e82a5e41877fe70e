package evict

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"
)

func parsed(t *testing.T, text Text) Settings {
	t.Helper()
	if text.Hold == "" {
		text.Hold = "5m"
	}
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParse(t *testing.T) {
	s := parsed(t, Text{})
	if len(s.Thresholds) != 5 || s.Thresholds[0] != (Threshold{Signal: MemoryAvailable, Limit: Amount{Value: 100 * mi}}) || s.Hold != 5*time.Minute {
		t.Errorf("defaults: %+v", s)
	}
	kept := s.Kept(v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourceEphemeralStorage: resource.MustParse("100Gi"), v1.ResourceCPU: resource.MustParse("2")})
	if len(kept) != 2 || kept.Memory().String() != "100Mi" || kept.StorageEphemeral().String() != "10Gi" {
		t.Errorf("kept: %+v", kept)
	}
	s = parsed(t, Text{
		Hard: map[string]string{"memory.available": "0", "pid.available": "3%"}, Soft: map[string]string{"nodefs.available": "15%"},
		SoftGrace: map[string]string{"nodefs.available": "90s"}, Reclaim: map[string]string{"nodefs.available": "1Gi"}, MaxGrace: 7,
	})
	var got []string
	for _, t := range s.Thresholds {
		got = append(got, string(t.Signal))
	}
	if text := strings.Join(got, " "); text != "nodefs.available nodefs.available imagefs.available nodefs.inodesFree imagefs.inodesFree pid.available" {
		t.Errorf("order: %s", text)
	}
	if hard, soft := s.Thresholds[0], s.Thresholds[1]; hard.Soft || !soft.Soft || soft.Grace != 90*time.Second || soft.Reclaim.Value != 1<<30 {
		t.Errorf("nodefs: %+v, %+v", hard, soft)
	}
	_, err := Parse(Text{
		Hard: map[string]string{"memory.free": "1", "memory.available": "-5", "nodefs.available": "100%"},
		Soft: map[string]string{"pid.available": "10"}, SoftGrace: map[string]string{"memory.available": "soon"}, MaxGrace: -1, Hold: "x",
	})
	for _, want := range []string{
		`evictionHard: "memory.free" is not one of memory.available`, `evictionHard: memory.available: "-5" is neither`, `"100%" is not a share`,
		`evictionSoftGracePeriod: evictionSoft names pid.available`, `not "soon"`, "evictionMaxPodGracePeriod", "evictionPressureTransitionPeriod",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q: %v", want, err)
		}
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"100Mi", "10%", "0", "-1", "NaN%", "1e400%", "9E", "%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAmount(text)
		if n := a.of(1 << 40); err == nil && (n < 0 || a.Share > 0 && n >= 1<<40) {
			t.Errorf("%q is %+v, %d of 1Ti", text, a, n)
		}
	})
}

func free(mib int64) Levels { return Levels{MemoryAvailable: {Capacity: 8 << 30, Available: mib * mi}} }

// TestPlan walks one node through time.
func TestPlan(t *testing.T) {
	s := parsed(t, Text{
		Soft: map[string]string{"memory.available": "500Mi"}, SoftGrace: map[string]string{"memory.available": "60s"},
		Reclaim: map[string]string{"memory.available": "200Mi"}, Hold: "2m",
	})
	start := time.Unix(1e9, 0)
	var state State
	for _, step := range []struct {
		at     time.Duration
		levels Levels
		acts   string
		under  bool
		near   bool
	}{
		{0, free(4000), "", false, false},
		{10 * time.Second, free(600), "", false, true},
		{20 * time.Second, free(400), "", true, true},                     // the soft limit's grace begins
		{70 * time.Second, free(450), "", true, true},                     // 50 s of it
		{80 * time.Second, free(450), "soft", true, true},                 // all of it
		{90 * time.Second, free(50), "hard soft", true, true},             // both
		{100 * time.Second, free(250), "hard soft", true, true},           // beyond the hard limit, and not yet by what is to be reclaimed
		{110 * time.Second, free(650), "soft", true, true},                // the same for the soft one
		{120 * time.Second, free(800), "", true, false},                   // free; the condition is held
		{229 * time.Second, free(4000), "", true, false},                  // 119 s after it was last seen
		{231 * time.Second, free(4000), "", false, false},                 // let go
		{240 * time.Second, Levels{}, "", false, false},                   // what is not known is no pressure
		{230 * time.Second, free(50), "hard", true, true},                 // the clock was set back
		{220 * time.Second, free(50), "hard", true, true},                 // once more
		{221 * time.Second, free(4000), "", true, false},                  // and the condition is held
		{400 * time.Second, free(4000), "", false, false},                 // and let go
		{400*time.Second + 1, Levels{PIDAvailable: {}}, "", false, false}, // a machine that does not say how much it has
	} {
		var d Decision
		d, state = Plan(s, state, step.levels, start.Add(step.at))
		var acts []string
		for _, a := range d.Act {
			acts = append(acts, map[bool]string{true: "soft", false: "hard"}[a.Soft])
		}
		if got := strings.Join(acts, " "); got != step.acts || (len(d.Conditions) > 0) != step.under || d.Near != step.near {
			t.Errorf("after %s: acts %q, %v, near %v", step.at, got, d.Conditions, d.Near)
		}
	}
}

// TestPlanProperties: what is acted upon is below its limit or not yet reclaimed, and always a condition; with enough free of all,
// nothing is done; memory comes first.
func TestPlanProperties(t *testing.T) {
	s := parsed(t, Text{Soft: map[string]string{"pid.available": "20%"}, SoftGrace: map[string]string{"pid.available": "20s"}})
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		var state State
		for range rapid.IntRange(1, 20).Draw(t, "looks") {
			now = now.Add(time.Duration(rapid.IntRange(-30, 300).Draw(t, "later")) * time.Second)
			l := Levels{}
			for _, signal := range signals {
				if n := rapid.Int64Range(-1, 100).Draw(t, string(signal)); n >= 0 {
					l[signal] = Level{Capacity: 100 * mi, Available: n * mi}
				}
			}
			var d Decision
			d, state = Plan(s, state, l, now)
			for i, a := range d.Act {
				if a.missing(l, true) <= 0 {
					t.Fatalf("acts on %+v at %+v", a, l[a.Signal])
				}
				if i > 0 && a.Signal == MemoryAvailable {
					t.Fatalf("memory is not first: %+v", d.Act)
				}
				if in := list(d.Conditions); !strings.Contains(in, string(a.Signal.Condition())) {
					t.Fatalf("acts on %s in %s", a.Signal, in)
				}
			}
		}
		plenty := Levels{}
		for _, signal := range signals {
			plenty[signal] = Level{Capacity: 1 << 40, Available: 1 << 40}
		}
		if d, _ := Plan(s, state, plenty, now.Add(time.Hour)); len(d.Act) > 0 || len(d.Conditions) > 0 || d.Near {
			t.Fatalf("with plenty of all: %+v", d)
		}
	})
}

func TestRefuse(t *testing.T) {
	memory, disk := []v1.NodeConditionType{v1.NodeMemoryPressure}, []v1.NodeConditionType{v1.NodeMemoryPressure, v1.NodeDiskPressure}
	for _, test := range []struct {
		in                       []v1.NodeConditionType
		critical, best, tolerant bool
		want                     string
	}{
		{nil, false, true, false, ""},
		{memory, false, true, false, "The node had condition: [MemoryPressure]. "},
		{memory, false, true, true, ""},
		{memory, false, false, false, ""},
		{memory, true, true, false, ""},
		{disk, false, false, true, "The node had condition: [MemoryPressure DiskPressure]. "},
		{disk, true, false, false, ""},
		{[]v1.NodeConditionType{v1.NodePIDPressure}, false, false, false, "The node had condition: [PIDPressure]. "},
	} {
		if got, refused := Refuse(test.in, test.critical, test.best, test.tolerant); got != test.want || refused != (test.want != "") {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
