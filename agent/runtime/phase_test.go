package runtime

import (
	"testing"
	"time"
)

func BenchmarkPhases(b *testing.B) {
	n := newNode(b, nil)
	i := 0
	var pod, create, start, observe, remove time.Duration
	for b.Loop() {
		t0 := time.Now()
		c := n.testPod(benchUID(i), nil)
		c.Command = []string{"sleep", "1000"}
		t1 := time.Now()
		id, err := n.run.Create(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		t2 := time.Now()
		if err := n.run.Start(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		t3 := time.Now()
		if _, err := n.run.Observe(b.Context(), c.PodUID); err != nil {
			b.Fatal(err)
		}
		t4 := time.Now()
		n.remove(b.Context(), c.PodUID)
		t5 := time.Now()
		pod += t1.Sub(t0)
		create += t2.Sub(t1)
		start += t3.Sub(t2)
		observe += t4.Sub(t3)
		remove += t5.Sub(t4)
		i++
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(i) }
	b.ReportMetric(ms(pod), "ms/sandbox")
	b.ReportMetric(ms(create), "ms/create")
	b.ReportMetric(ms(start), "ms/start")
	b.ReportMetric(ms(observe), "ms/observe")
	b.ReportMetric(ms(remove), "ms/remove")
}
