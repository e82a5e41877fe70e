package integration

import (
	"testing"
)

// BenchmarkPodReady prints, for one pod and for 100 at once, create to Ready beside the same containers started by
// `ctr run -d` in the same run; quote the ratio, not the seconds.
func BenchmarkPodReady(b *testing.B) {
	for _, c := range []struct {
		name string
		pods int
	}{{"one", 1}, {"hundred", 100}} {
		b.Run(c.name, func(b *testing.B) {
			s := newSpace(b)
			createToReady(s, 1, "warm")
			for b.Loop() {
				floor := s.floor(b, c.pods)
				own := createToReady(s, c.pods, "bench")
				memory(b, s)
				gone := deletePods(s)
				b.ReportMetric(own.Seconds(), "ready-s")
				b.ReportMetric(floor.Seconds(), "ctr-s")
				b.ReportMetric(own.Seconds()/floor.Seconds(), "ready/ctr")
				b.ReportMetric(gone.Seconds()/floor.Seconds(), "delete/ctr")
			}
			b.ReportMetric(0, "ns/op") // the time of the loop holds the floor too, and says nothing
		})
	}
}

func memory(b *testing.B, s *space) {
	b.Helper()
	b.ReportMetric(privateMB(b, s.agent.pid()), "agent-MB")
	b.ReportMetric(privateMB(b, s.control.pid()), "controlplane-MB")
	b.ReportMetric(s.nodePSS(b), "node-PSS-MB")
}
