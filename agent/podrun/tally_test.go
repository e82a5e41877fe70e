package podrun

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
)

func TestStartTimes(t *testing.T) {
	w := &worker{r: &Runner{}}
	seen := &pod.Facts{StartTime: time.Now().Add(-1500 * time.Millisecond)}
	w.timeStart(v1.PodPending, v1.PodRunning, seen)
	w.timeStart(v1.PodPending, v1.PodRunning, &pod.Facts{StartTime: time.Now().Add(-2 * time.Hour)})
	w.timeStart(v1.PodPending, v1.PodRunning, &pod.Facts{StartTime: time.Now().Add(time.Hour)}) // the clock was set back
	// None of these is a start.
	w.timeStart(v1.PodRunning, v1.PodRunning, seen)
	w.timeStart("", v1.PodRunning, seen)
	w.timeStart(v1.PodPending, v1.PodFailed, seen)
	w.timeStart(v1.PodPending, v1.PodRunning, &pod.Facts{})
	got := w.r.StartTimes()
	if got.Count != 3 || got.Sum < 2*time.Hour || got.Sum > 3*time.Hour {
		t.Errorf("%d pods took %s", got.Count, got.Sum)
	}
	for i, bound := range got.Bounds() {
		want := uint64(1)
		if bound >= 10 { // the first is done by now on any machine
			want = 2
		}
		if bound > 1 && bound < 10 {
			continue
		}
		if got.Within[i] != want {
			t.Errorf("%d pods within %v s, want %d", got.Within[i], bound, want)
		}
	}
}
