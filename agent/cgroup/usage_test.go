package cgroup

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

var readPod = &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u1"}, Spec: v1.PodSpec{Containers: []v1.Container{{}}}}

func TestReadUnified(t *testing.T) {
	root := t.TempDir()
	c := &Cgroups{cfg: Config{Root: "/"}, unified: true, hierarchies: map[string]string{"": root}}
	g := c.Pod(readPod).Container("u1-web-0")
	if _, ok := g.Read(); ok {
		t.Fatal("a group that does not exist was read")
	}
	put(t, filepath.Join(root, "coracle/besteffort/podu1/u1-web-0"), map[string]string{
		"cpu.stat":            "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 4\nnr_throttled 1\nthrottled_usec 50\n",
		"cpu.max":             "50000 100000\n",
		"cpu.weight":          "1\n",
		"cpu.pressure":        "some avg10=1.50 avg60=0.20 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
		"memory.current":      "1000\n",
		"memory.stat":         "anon 600\nfile 400\nfile_mapped 30\ninactive_file 100\npgfault 11\npgmajfault 2\n",
		"memory.max":          "max\n",
		"memory.peak":         "1200\n",
		"memory.swap.current": "5\n",
		"memory.swap.max":     "9\n",
		"memory.events":       "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
		"pids.current":        "6\n",
		"pids.max":            "10\n",
		"io.stat":             "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 \n",
		"cgroup.procs":        "41\n42\n",
	})
	got, ok := g.Read()
	if !ok {
		t.Fatal("the group was not read")
	}
	want := Usage{
		CPU: 3 * time.Millisecond, User: 2 * time.Millisecond, System: time.Millisecond,
		Periods: 4, ThrottledPeriods: 1, Throttled: 50 * time.Microsecond, Shares: 2, Quota: 50 * time.Millisecond, Period: 100 * time.Millisecond,
		Memory: 1000, WorkingSet: 900, RSS: 600, Cache: 400, Mapped: 30, Swap: 5, MaxMemory: 1200, SwapLimit: 9, Failures: 3, OOMKills: 1,
		PageFaults: 11, MajorPageFaults: 2, Pids: 6, PidsLimit: 10,
		Devices:     []DeviceIO{{Device: "8:0", ReadBytes: 1, WrittenBytes: 2, ReadCount: 3, WriteCount: 4}},
		CPUPressure: Pressure{Some: Stall{Total: 7 * time.Microsecond, Avg10: 1.5, Avg60: 0.2}, Full: Stall{Total: 2 * time.Microsecond}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{41, 42}, g.Processes()); diff != "" {
		t.Error(diff)
	}
	if g.Path() != "/coracle/besteffort/podu1/u1-web-0" || c.Root().Path() != "/" {
		t.Errorf("paths %s and %s", g.Path(), c.Root().Path())
	}
}

func TestReadLegacy(t *testing.T) {
	root := t.TempDir()
	at := map[string]string{}
	for _, name := range []string{"cpu", "cpuacct", "memory", "pids", "blkio"} {
		at[name] = filepath.Join(root, name)
	}
	c := &Cgroups{cfg: Config{Root: "/edge"}, hierarchies: at}
	g := c.Pod(readPod)
	rel := "edge/coracle/besteffort/podu1"
	put(t, filepath.Join(at["cpu"], rel), map[string]string{
		"cpu.shares": "256\n", "cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n", "cpu.stat": "nr_periods 2\nnr_throttled 1\nthrottled_time 1500\n"})
	put(t, filepath.Join(at["cpuacct"], rel), map[string]string{"cpuacct.usage": "123456\n", "cpuacct.stat": "user 3\nsystem 1\n"})
	put(t, filepath.Join(at["memory"], rel), map[string]string{
		"memory.usage_in_bytes": "500\n", "memory.max_usage_in_bytes": "700\n", "memory.limit_in_bytes": "9223372036854771712\n", "memory.failcnt": "2\n",
		"memory.stat":        "cache 1\ntotal_cache 200\ntotal_rss 300\ntotal_mapped_file 20\ntotal_inactive_file 600\ntotal_pgfault 8\ntotal_pgmajfault 1\ntotal_swap 4\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"})
	put(t, filepath.Join(at["pids"], rel), map[string]string{"pids.current": "3\n", "pids.max": "max\n"})
	put(t, filepath.Join(at["blkio"], rel), map[string]string{
		"blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 10\n8:0 Sync 0\nTotal 4106\n",
		"blkio.throttle.io_serviced_recursive":      "8:0 Read 1\n8:0 Write 2\n"})
	got, ok := g.Read()
	if !ok {
		t.Fatal("the group was not read")
	}
	want := Usage{
		CPU: 123456, User: 30 * time.Millisecond, System: 10 * time.Millisecond, Periods: 2, ThrottledPeriods: 1, Throttled: 1500,
		Shares: 256, Period: 100 * time.Millisecond,
		Memory: 500, WorkingSet: 0, RSS: 300, Cache: 200, Mapped: 20, Swap: 4, MaxMemory: 700, Failures: 2, OOMKills: 1,
		PageFaults: 8, MajorPageFaults: 1, Pids: 3,
		Devices: []DeviceIO{{Device: "8:0", ReadBytes: 4096, WrittenBytes: 10, ReadCount: 1, WriteCount: 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzUsageFiles(f *testing.F) {
	f.Add("8:0 rbytes=1 wbytes=2\n", "some avg10=0.00 total=7\n", "anon 5\n")
	f.Add(":\n", "full total=-1 avg10=x", "a\x00 99999999999999999999999\n")
	f.Fuzz(func(t *testing.T, io, psi, stat string) {
		for _, d := range unifiedDevices([]byte(io)) {
			if d.Device == "" {
				t.Error("a device without a name")
			}
		}
		p := pressure([]byte(psi))
		if p.Some.Avg10 < 0 || p.Full.Avg300 < 0 {
			t.Errorf("negative share: %+v", p)
		}
		pairs([]byte(stat))
	})
}
