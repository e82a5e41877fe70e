package integration

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// within fails the test when what was measured is over the budget, and prints both either way.
func within(t *testing.T, what string, got, budget float64, unit string) {
	t.Helper()
	t.Logf("%-56s %8.3f of %8.3f %s", what, got, budget, unit)
	if got > budget {
		t.Errorf("%s: %.3f %s is over the budget of %.3f", what, got, unit, budget)
	}
}

func TestBudgetBinaries(t *testing.T) {
	for name, budget := range map[string]float64{"coracle-agent": 45, "coracle-controlplane": 110} {
		info, err := os.Stat(binary(name))
		if err != nil {
			t.Fatal(err)
		}
		within(t, "size of "+name, float64(info.Size())/1e6, budget, "MB")
	}
}

// TestBudgetPods holds what 1 and 100 pods may cost in memory, and in CPU, disk writes and log lines at rest.
func TestBudgetPods(t *testing.T) {
	s := newSpace(t)
	createToReady(s, 1, "one")
	within(t, "agent, private memory with 1 pod", idleMB(t, s.agent.pid(), 16), 16, "MB")
	within(t, "control plane, private memory with 1 pod", idleMB(t, s.control.pid(), 90), 90, "MB")

	createToReady(s, 99, "many")
	within(t, "agent, private memory with 100 pods", idleMB(t, s.agent.pid(), 40), 40, "MB")
	within(t, "agent, log writer, containerd and shims, PSS", s.nodePSS(t), 250, "MB")
	within(t, "control plane, private memory with 100 pods", idleMB(t, s.control.pid(), 200), 200, "MB")
	rest(t, s, "100 pods", 0.03)
}

// idleMB is a process's private memory once what its start or a burst has left is given back: a minute at most.
func idleMB(t *testing.T, pid int, budget float64) (mb float64) {
	t.Helper()
	_ = eventually(time.Minute/slack, func() error { // the caller judges what it came to
		if mb = privateMB(t, pid); mb > budget {
			return fmt.Errorf("%.1f MB", mb)
		}
		return nil
	})
	return mb
}

// TestBudgetSpeed holds what pods may cost in time, as ratios to `ctr run` in the same run, and in CPU. It wants a
// machine with nothing else to do, so `make test` leaves it to `make budget`.
func TestBudgetSpeed(t *testing.T) {
	s := newSpace(t)
	createToReady(s, 1, "warm") // image present, everything paged in
	var ratios []float64
	for i := range 5 {
		own := createToReady(s, 1, "one"+string(rune('a'+i)))
		ratios = append(ratios, own.Seconds()/s.floor(t, 1).Seconds())
	}
	within(t, "pod create to Ready, median of 5", median(ratios), 1.0, "x ctr run -d")

	floor := s.floor(t, 100)
	quiet(t)
	agentCPU, controlCPU := cpuSeconds(t, s.agent.pid()), cpuSeconds(t, s.control.pid())
	own := createToReady(s, 94, "many") // with the six above, 100 pods
	used := cpuSeconds(t, s.agent.pid()) - agentCPU + cpuSeconds(t, s.control.pid()) - controlCPU
	within(t, "CPU for each pod started, agent and control plane", used/94, 0.025, "s")
	within(t, "100 pods at once, all Ready", own.Seconds()/floor.Seconds(), 0.6, "x ctr run -d")
}

// atRest is what happened in a while in which nobody asked for anything.
type atRest struct {
	cpu     float64 // of a core
	written float64 // bytes
	logged  string
}

// rest measures what everything costs while nothing happens: CPU as a share of one core, disk writes and log lines. It
// counts what our own processes use, and of several whiles the best: what else the machine does may delay what belongs
// to the time before, and makes the same work cost more; something that is done at rest shows in all of them.
func rest(t *testing.T, s *space, with string, budget float64) {
	t.Helper()
	waitFor(15 * time.Second) // status reports and events of the start are through by then
	best := s.atRest(t, 30*time.Second)
	for try := 1; try < 5 && (best.cpu > budget || best.written > 0 || best.logged != ""); try++ {
		t.Logf("not at rest: %+v", best)
		next := s.atRest(t, 30*time.Second)
		best.cpu, best.written = min(best.cpu, next.cpu), min(best.written, next.written)
		if next.logged == "" {
			best.logged = ""
		}
	}
	within(t, "CPU at rest with "+with, best.cpu, budget, "of a core")
	within(t, "agent's disk writes at rest with "+with, best.written, 0, "bytes")
	if best.logged != "" {
		t.Errorf("at rest with %s the agent logged: %s", with, best.logged)
	}
}

func (s *space) atRest(t *testing.T, span time.Duration) (r atRest) {
	t.Helper()
	total := func() (sum float64) {
		for _, p := range []*process{s.agent, s.control, s.containerd, s.logs} {
			sum += cpuSeconds(t, p.pid())
		}
		return sum
	}
	cpu, size, written := total(), s.logSize(), writtenBytes(t, s.agent.pid())
	waitFor(span)
	r.cpu = (total() - cpu) / span.Seconds()
	r.written = float64(writtenBytes(t, s.agent.pid()) - written)
	if log, err := os.ReadFile(s.agent.log); err != nil || int64(len(log)) != size {
		r.logged = fmt.Sprintf("%s %v", log[min(size, int64(len(log))):], err)
	}
	return r
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
