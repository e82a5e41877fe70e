package runtime

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

func benchUID(i int) types.UID {
	return types.UID(fmt.Sprintf("%08x-aaaa-4bbb-8ccc-0000000000bb", i))
}

// BenchmarkPod is the runtime's share of a pod: cgroup, sandbox, container, running.
func BenchmarkPod(b *testing.B) {
	n := newNode(b, nil)
	i := 0
	for b.Loop() {
		c := n.testPod(benchUID(i), nil)
		c.Command = []string{"sleep", "1000"}
		n.start(c)
		b.StopTimer()
		n.remove(b.Context(), c.PodUID)
		b.StartTimer()
		i++
	}
}

// BenchmarkCtrRun is the floor: the same container through containerd's own command line.
func BenchmarkCtrRun(b *testing.B) {
	n := newNode(b, nil)
	i := 0
	for b.Loop() {
		id := fmt.Sprintf("ctr%d", i)
		out, err := exec.Command("ctr", "--address", n.daemon.Address, "-n", "coracle", "run", "-d", testImage, id, "sleep", "1000").CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		b.StopTimer()
		for _, args := range [][]string{{"task", "kill", "-s", "9", id}, {"task", "rm", "-f", id}, {"container", "rm", id}} {
			var last bytes.Buffer
			cmd := exec.Command("ctr", append([]string{"--address", n.daemon.Address, "-n", "coracle"}, args...)...)
			cmd.Stderr = &last
			_ = cmd.Run() // of a task that is already gone
		}
		b.StartTimer()
		i++
	}
}

// BenchmarkHundred starts a hundred pods, eight at a time, and reports shims and observation.
func BenchmarkHundred(b *testing.B) {
	n := newNode(b, nil)
	round := 0
	for b.Loop() {
		begin := time.Now()
		var group sync.WaitGroup
		slots := make(chan struct{}, 8) // as many at a time as TESTBED's figures
		for i := range 100 {
			group.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				c := n.testPod(benchUID(round*1000+i), nil)
				c.Command = []string{"sleep", "1000"}
				n.start(c)
			})
		}
		group.Wait()
		b.ReportMetric(time.Since(begin).Seconds(), "s/100started")
		begin = time.Now()
		all, err := n.run.ObserveAll(b.Context())
		if err != nil || len(all) != 100 {
			b.Fatalf("%d pods, %v", len(all), err)
		}
		b.ReportMetric(float64(time.Since(begin).Milliseconds()), "ms/observeAll")
		b.ReportMetric(float64(len(n.daemon.Shims())), "shims")
		b.ReportMetric(cpuSeconds(append(n.daemon.Shims(), n.daemon.PID()))/100, "cpu-s/pod")
		b.ReportMetric(proportional(n.daemon.Shims()), "MB-shims")
		b.StopTimer()
		begin = time.Now()
		for i := range 100 {
			group.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				n.remove(b.Context(), benchUID(round*1000+i))
			})
		}
		group.Wait()
		b.ReportMetric(time.Since(begin).Seconds(), "s/100removed")
		b.StartTimer()
		round++
	}
}

// proportional is the processes' memory in MB, shared pages by their share.
func proportional(pids []int) float64 {
	var kb int
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for _, line := range strings.Split(string(data), "\n") {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kb += atoi(strings.TrimSuffix(strings.TrimSpace(rest), "kB"))
			}
		}
	}
	return float64(kb) / 1024
}

// cpuSeconds is what processes and their children that have ended have used.
func cpuSeconds(pids []int) float64 {
	ticks := 0
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		for i := 11; i < 15 && i < len(fields); i++ { // utime, stime, cutime, cstime
			ticks += atoi(fields[i])
		}
	}
	return float64(ticks) / 100
}

// ociFromEnv lets tests and benchmarks run with either OCI runtime: CORACLE_OCI=crun.
func ociFromEnv(c *Config) { c.OCIRuntime = os.Getenv("CORACLE_OCI") }
