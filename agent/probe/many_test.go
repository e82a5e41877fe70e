package probe

import (
	"context"
	"net/http"
	"net/http/httptest"
	goruntime "runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/agent/pod"
	"coracle/agent/runtime"
)

const many = 2000

// TestManyProbesWaitTogether: a probe that waits has no goroutine and next to no memory.
func TestManyProbesWaitTogether(t *testing.T) {
	p := New(Config{
		Exec:      execFunc(func(context.Context, runtime.ExecSpec) (int, error) { return 0, nil }),
		OnChange:  func(types.UID) {},
		OnOutcome: func(types.UID, pod.ProbeTarget, Outcome, string) {},
	})
	stop := runProbes(t, p)
	defer stop()
	spec := &v1.Probe{InitialDelaySeconds: 3600, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{}}}
	goroutines, before := goruntime.NumGoroutine(), heapInUse()
	for i := range many {
		p.SetTargets(types.UID(strconv.Itoa(i)), "", []pod.ProbeTarget{{ContainerID: "c", Kind: pod.Liveness, StartedAt: time.Now(), Probe: spec}})
	}
	each := (int64(heapInUse()) - int64(before)) / many
	t.Logf("%d probes: %d bytes each, %d goroutines more", many, each, goruntime.NumGoroutine()-goroutines)
	if more := goruntime.NumGoroutine() - goroutines; more > 5 {
		t.Errorf("%d goroutines for probes that wait", more)
	}
	if each > 1500 {
		t.Errorf("a probe that waits costs %d bytes, want 1500 at the most", each)
	}
	goruntime.KeepAlive(p)
}

func heapInUse() uint64 {
	goruntime.GC()
	goruntime.GC()
	var m goruntime.MemStats
	goruntime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkManyProbes says what 2,000 httpGet probes of the default period cost, their server in the same process included.
func BenchmarkManyProbes(b *testing.B) {
	var served atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	defer s.Close()
	host, port := split(b, s.Listener.Addr())
	for b.Loop() {
		p := New(Config{
			Exec:      execFunc(func(context.Context, runtime.ExecSpec) (int, error) { return 0, nil }),
			OnChange:  func(types.UID) {},
			OnOutcome: func(_ types.UID, _ pod.ProbeTarget, _ Outcome, message string) { b.Error(message) },
		})
		stop := runProbes(b, p)
		began, cpu, heap := time.Now(), cpuTime(b), heapInUse()
		for i := range many {
			// As after a start of the agent: spread over the period.
			p.SetTargets(types.UID(strconv.Itoa(i)), host, []pod.ProbeTarget{{ContainerID: "c", Kind: pod.Liveness, StartedAt: began.Add(-time.Hour), Probe: &v1.Probe{
				PeriodSeconds: 10, TimeoutSeconds: 5, ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/", Port: intstr.FromInt(port)}},
			}}})
		}
		<-time.After(20 * time.Second)
		took := time.Since(began)
		b.ReportMetric(float64(cpuTime(b)-cpu)/float64(took)*100, "%core")
		b.ReportMetric(float64(served.Load())/took.Seconds(), "probes/s")
		b.ReportMetric((float64(heapInUse())-float64(heap))/many, "heapB/probe")
		b.ReportMetric(float64(goruntime.NumGoroutine()), "goroutines")
		stop()
	}
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestSlowProbeDoesNotOverlap: a probing that takes longer than the period is not begun a second time, and ends with its target.
func TestSlowProbeDoesNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var under, most, begun atomic.Int64
		p := New(Config{
			Exec: execFunc(func(ctx context.Context, _ runtime.ExecSpec) (int, error) {
				begun.Add(1)
				most.Store(max(most.Load(), under.Add(1)))
				defer under.Add(-1)
				select {
				case <-time.After(25 * time.Second):
				case <-ctx.Done():
				}
				return 1, nil
			}),
			OnChange:  func(types.UID) { t.Error("a verdict from a probing that was broken off") },
			OnOutcome: func(types.UID, pod.ProbeTarget, Outcome, string) {},
		})
		stop := runProbes(t, p)
		defer stop()
		target := pod.ProbeTarget{ContainerID: "c", Kind: pod.Liveness, StartedAt: time.Now(), Probe: &v1.Probe{
			PeriodSeconds: 10, FailureThreshold: 3, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{}},
		}}
		p.SetTargets("u", "", []pod.ProbeTarget{target})
		<-time.After(70 * time.Second) // begun at 0, 30 and 60 s: the periods between found it under way
		if most.Load() != 1 || begun.Load() != 3 || under.Load() != 1 {
			t.Errorf("begun %d, %d at once, %d under way", begun.Load(), most.Load(), under.Load())
		}
		p.SetTargets("u", "", nil)
		synctest.Wait()
		if under.Load() != 0 {
			t.Error("a probing goes on after its target was taken from the list")
		}
	})
}
