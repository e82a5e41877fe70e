package podrun

import (
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/agent/probe"
)

// ProbeTallies are the outcomes of the probes that run now, for monitoring.
func (r *Runner) ProbeTallies() []probe.Tally { return r.probes.Tallies() }

// StartTimes is how long pods took to start: from the node's first sight of one to its running.
type StartTimes struct {
	// Within counts, for each of Bounds, those that took no longer.
	Within [len(startBounds)]uint64
	Count  uint64
	Sum    time.Duration
}

// startBounds are in seconds; those of kubelet_pod_start_duration_seconds.
var startBounds = [...]float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}

// Bounds are those of Within, in seconds.
func (StartTimes) Bounds() []float64 { return startBounds[:] }

// startTimes counts. The zero value is ready for use.
type startTimes struct {
	mu    sync.Mutex
	times StartTimes
}

func (s *startTimes) observe(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times.Count++
	s.times.Sum += took
	for i, bound := range startBounds {
		if took.Seconds() <= bound {
			s.times.Within[i]++
		}
	}
}

// StartTimes are those of the pods that this run of the agent has seen begin to run.
func (r *Runner) StartTimes() StartTimes {
	r.started.mu.Lock()
	defer r.started.mu.Unlock()
	return r.started.times
}

// timeStart counts a pod that was said to be Pending and now runs.
func (w *worker) timeStart(before, now v1.PodPhase, facts *pod.Facts) {
	if before == v1.PodPending && now == v1.PodRunning && !facts.StartTime.IsZero() {
		w.r.started.observe(max(time.Since(facts.StartTime), 0))
	}
}
