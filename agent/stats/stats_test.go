package stats

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"coracle/agent/cgroup"
	"coracle/agent/fact"
	"coracle/internal/usage"
)

// node is a machine laid out in a folder.
type node struct {
	t    *testing.T
	root string
	pods []*v1.Pod
	said map[types.UID]v1.PodStatus
	s    *Stats
}

func (n *node) Pods() []*v1.Pod { return n.pods }

func (n *node) Last(uid types.UID) (v1.PodStatus, bool, bool) {
	status, ok := n.said[uid]
	return status, false, ok
}

func (n *node) RootfsUsage(context.Context, string) (int64, int64, error) { return 4096, 3, nil }

func (n *node) put(path, content string) {
	n.t.Helper()
	path = filepath.Join(n.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// group writes a control group that has used so much CPU.
func (n *node) group(path string, cpu time.Duration, memory int) {
	dir := filepath.Join("cgroup", path)
	n.put(dir+"/cpu.stat", fmt.Sprintf("usage_usec %d\nuser_usec 1000\nsystem_usec 500\n", cpu.Microseconds()))
	n.put(dir+"/memory.current", fmt.Sprint(memory))
	n.put(dir+"/memory.stat", "anon 100\nfile 50\ninactive_file 10\n")
	n.put(dir+"/memory.max", "4096\n")
	n.put(dir+"/pids.current", "2\n")
	n.put(dir+"/cgroup.procs", "77\n")
	n.put(dir+"/memory.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
}

const podGroup = "coracle/besteffort/podu1"

func newNode(t *testing.T, began time.Time) *node {
	n := &node{t: t, root: t.TempDir(), said: map[types.UID]v1.PodStatus{}}
	start := metav1.NewTime(began)
	n.pods = []*v1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "c"}, {Name: "done"}}},
	}, {
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "new", UID: "u2"},
	}}
	n.said["u1"] = v1.PodStatus{
		Phase: v1.PodRunning, StartTime: &start,
		ContainerStatuses: []v1.ContainerStatus{
			{Name: "c", Image: "demo:1", ContainerID: "containerd://u1-c-0", RestartCount: 2, State: v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: start}}},
			{Name: "done", Image: "demo:1", ContainerID: "containerd://u1-done-0", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{}}},
		},
	}
	n.group("", 100*time.Second, 0)
	n.group("coracle", 10*time.Second, 3000)
	n.group(podGroup, 2*time.Second, 1000)
	n.group(podGroup+"/u1-c-0", time.Second, 900)
	n.put("proc/stat", "cpu 1 2 3\nbtime 1700000000\n")
	n.put("proc/meminfo", "MemTotal: 8 kB\nMemFree: 2 kB\nInactive(file): 1 kB\nSwapTotal: 0 kB\n")
	n.put("proc/77/net/dev", "Inter-| Receive | Transmit\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 1 2 3 0 0 0 0 20 4 5 6 0 0 0 0\n")
	n.put("proc/1/net/dev", "x\ny\n  eth1: 7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n")
	n.put("proc/self/stat", "9 (a b) c) S 1 1 1 0 -1 4 1 1 1 1 300 100 0 0 20 0 5 0 200 1000000 50 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n")
	n.put("proc/self/limits", "Limit\nMax open files            1024                 4096                 files\n")
	n.put("log/default_web_u1/c/0.log", strings.Repeat("x", 5000))
	n.put("kubelet/pods/u1/volumes/kubernetes.io~empty-dir/cache/data", strings.Repeat("x", 9000))
	n.put("var/log/syslog", "a line\n")
	n.s = New(Config{
		NodeName: "n1", Pods: n, Statuses: n, Runtime: n, Cgroups: cgroup.Folder(filepath.Join(n.root, "cgroup")), Host: fact.Host{Root: n.root},
		RootDir: filepath.Join(n.root, "kubelet"), LogDir: filepath.Join(n.root, "log"), SystemLogs: filepath.Join(n.root, "var/log"), ImageDir: n.root,
		Began: began, Version: "v9", KubernetesVersion: "v1.37.2",
		Effective:          func() map[string]any { return map[string]any{"maxPods": 110} },
		CertificateExpires: func() time.Time { return time.Now().Add(time.Hour) },
		Starts: func() Histogram {
			return Histogram{Bounds: []float64{0.5, 1}, Within: []uint64{1, 2}, Count: 3, Sum: 10.5}
		},
		Probes: func() []ProbeCount {
			return []ProbeCount{{UID: "u1", Namespace: "default", Pod: "web", Container: "c", Type: "Readiness", Result: "successful", Count: 7}}
		},
		Log: slog.New(slog.DiscardHandler),
	})
	return n
}

func (n *node) get(path string) string {
	n.t.Helper()
	w := httptest.NewRecorder()
	n.s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		n.t.Fatalf("GET %s: %d: %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(text) {
			t.Errorf("no line %s in:\n%s", line, text)
		}
	}
}

func TestMetrics(t *testing.T) {
	n := newNode(t, time.Now().Add(-time.Hour))
	q := regexp.QuoteMeta
	const pod = `container="",id="/coracle/besteffort/podu1",image="",name="",namespace="default",pod="web"`
	const c = `container="c",id="/coracle/besteffort/podu1/u1-c-0",image="demo:1",name="u1-c-0",namespace="default",pod="web"`
	wants(t, n.get("/metrics/cadvisor"),
		q("# TYPE container_cpu_usage_seconds_total counter"),
		q(`container_cpu_usage_seconds_total{cpu="total",`+c+`} 1`)+` \d{13}`,
		q(`container_cpu_usage_seconds_total{cpu="total",`+pod+`} 2`)+` \d{13}`,
		q(`container_cpu_usage_seconds_total{cpu="total",container="",id="/",image="",name="",namespace="",pod=""} 100`)+` \d{13}`,
		q(`container_memory_working_set_bytes{`+c+`} 890`)+` \d{13}`,
		q(`container_memory_working_set_bytes{container="",id="/",image="",name="",namespace="",pod=""} 5120`)+` \d{13}`,
		q(`container_spec_memory_limit_bytes{`+c+`} 4096`)+` \d{13}`,
		q(`container_network_receive_bytes_total{interface="eth0",`+pod+`} 10`)+` \d{13}`,
		q(`container_network_transmit_packets_dropped_total{interface="eth0",`+pod+`} 6`)+` \d{13}`,
		q(`container_pressure_memory_waiting_seconds_total{`+c+`} 1`)+` \d{13}`,
		q(`container_start_time_seconds{`+c+`} `)+`[\d.e+]+ \d{13}`,
		`machine_memory_bytes\{.*\} 8192`, `machine_cpu_cores\{.*\} \d+`,
	)
	if text := n.get("/metrics/cadvisor"); strings.Contains(text, "u1-done-0") {
		t.Error("a container that has ended has figures")
	}
	wants(t, n.get("/metrics/resource"),
		q(`container_cpu_usage_seconds_total{container="c",namespace="default",pod="web"} 1`)+` \d{13}`,
		q(`container_memory_working_set_bytes{container="c",namespace="default",pod="web"} 890`)+` \d{13}`,
		q(`container_start_time_seconds{container="c",namespace="default",pod="web"} `)+`[\d.e+]+`,
		q(`pod_cpu_usage_seconds_total{namespace="default",pod="web"} 2`)+` \d{13}`,
		`node_cpu_usage_seconds_total 100 \d{13}`, `node_memory_working_set_bytes 5120 \d{13}`, `resource_scrape_error 0`, `scrape_error 0`)
	wants(t, n.get("/metrics"),
		q(`kubelet_node_name{node="n1"} 1`), `kubelet_running_pods 1`, q(`kubelet_running_containers{container_state="running"} 1`),
		q(`kubelet_running_containers{container_state="exited"} 1`), `kubelet_desired_pods 2`, `go_goroutines \d+`,
		`process_cpu_seconds_total 4`, `process_max_fds 1024`, `process_start_time_seconds 1.700000002e\+09`,
		q(`kubelet_pod_start_duration_seconds_bucket{le="0.5"} 1`), q(`kubelet_pod_start_duration_seconds_bucket{le="+Inf"} 3`),
		`kubelet_pod_start_duration_seconds_sum 10.5`, `kubelet_pod_start_duration_seconds_count 3`,
		`kubelet_certificate_manager_client_ttl_seconds 3\d+.*`, `kubernetes_build_info\{.*git_version="v1.37.2".*\} 1`)
	wants(t, n.get("/metrics/probes"), q(`prober_probe_total{container="c",namespace="default",pod="web",pod_uid="u1",probe_type="Readiness",result="successful"} 7`))
}

// Each family has one head, before its samples, and all its samples together.
func TestExpositionIsWellFormed(t *testing.T) {
	n := newNode(t, time.Now().Add(-time.Hour))
	sampleLine := regexp.MustCompile(`^([a-z_]+)(\{([a-zA-Z_]+="([^"\\]|\\.)*"(,|\}))+)? ([-+0-9.eInf]+)( \d{13})?$`)
	for _, path := range []string{"/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes"} {
		family, seen := "", map[string]bool{}
		for _, line := range strings.Split(strings.TrimSuffix(n.get(path), "\n"), "\n") {
			if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
				family, _, _ = strings.Cut(name, " ")
				if seen[family] {
					t.Errorf("%s: family %s comes twice", path, family)
				}
				seen[family] = true
				continue
			}
			if strings.HasPrefix(line, "# HELP ") {
				continue
			}
			m := sampleLine.FindStringSubmatch(line)
			if m == nil || m[1] != family && !strings.HasPrefix(m[1], family+"_") {
				t.Errorf("%s: line %q in family %s", path, line, family)
			}
		}
	}
}

func TestSummary(t *testing.T) {
	n := newNode(t, time.Now().Add(-time.Minute))
	var got statsapi.Summary
	if err := json.Unmarshal([]byte(n.get("/stats/summary")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Node.NodeName != "n1" || *got.Node.Memory.WorkingSetBytes != 5120 || *got.Node.Memory.AvailableBytes != 3072 || got.Node.Network.Name != "eth1" {
		t.Errorf("node: %+v", got.Node)
	}
	if len(got.Pods) != 1 || len(got.Pods[0].Containers) != 1 {
		t.Fatalf("pods: %+v", got.Pods)
	}
	p, c := got.Pods[0], got.Pods[0].Containers[0]
	if p.PodRef != (statsapi.PodReference{Name: "web", Namespace: "default", UID: "u1"}) || *p.Network.RxBytes != 10 || p.Memory.PSI.Some.Avg10 != 0.5 {
		t.Errorf("pod: %+v", p)
	}
	if *c.CPU.UsageCoreNanoSeconds != 1e9 || *c.CPU.UsageNanoCores == 0 || *c.Memory.WorkingSetBytes != 890 || *c.Memory.AvailableBytes != 4096-890 {
		t.Errorf("container: %+v %+v", *c.CPU, *c.Memory)
	}
	if *c.Rootfs.UsedBytes != 4096 || *c.Logs.UsedBytes < 5000 {
		t.Errorf("disk of the container: %+v %+v", *c.Rootfs, *c.Logs)
	}
	if len(p.VolumeStats) != 1 || p.VolumeStats[0].Name != "cache" || *p.VolumeStats[0].UsedBytes < 9000 || *p.EphemeralStorage.UsedBytes < 4096+5000 {
		t.Errorf("volumes: %+v, together %+v", p.VolumeStats, *p.EphemeralStorage)
	}
	var brief statsapi.Summary
	if err := json.Unmarshal([]byte(n.get("/stats/summary?only_cpu_and_memory=true")), &brief); err != nil {
		t.Fatal(err)
	}
	if b := brief.Pods[0]; b.Network != nil || b.VolumeStats != nil || b.Containers[0].Rootfs != nil || b.Containers[0].CPU == nil {
		t.Errorf("only CPU and memory was asked for: %+v", b)
	}
}

// The first request waits for a second reading; what ran between is the rate. The next one does not wait.
func TestUsageTakesTwoReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, time.Now().Add(-time.Hour))
		began := time.Now()
		go func() {
			time.Sleep(leastWindow / 2)
			n.group(podGroup+"/u1-c-0", time.Second+250*time.Millisecond, 900)
		}()
		var got usage.Node
		if err := json.Unmarshal([]byte(n.get(usage.Path)), &got); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < leastWindow || took > 3*leastWindow {
			t.Errorf("took %s", took)
		}
		if len(got.Pods) != 1 || len(got.Pods[0].Containers) != 1 {
			t.Fatalf("pods: %+v", got.Pods)
		}
		c := got.Pods[0].Containers[0]
		if c.NanoCores != 250e6 || c.Window != leastWindow || c.WorkingSet != 890 {
			t.Errorf("container: %+v", c)
		}
		time.Sleep(15 * time.Second)
		n.group(podGroup+"/u1-c-0", time.Second+250*time.Millisecond+1500*time.Millisecond, 900)
		began = time.Now()
		if err := json.Unmarshal([]byte(n.get(usage.Path)), &got); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the second request took %s", took)
		}
		if c := got.Pods[0].Containers[0]; c.NanoCores != 100e6 || c.Window != 15*time.Second {
			t.Errorf("container: %+v", c)
		}
	})
}

func TestKubeletPaths(t *testing.T) {
	n := newNode(t, time.Now())
	if got := n.get("/healthz"); got != "ok" {
		t.Errorf("/healthz: %s", got)
	}
	var pods v1.PodList
	if err := json.Unmarshal([]byte(n.get("/pods")), &pods); err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 2 || pods.Items[1].Name != "web" || pods.Items[1].Status.Phase != v1.PodRunning {
		t.Errorf("/pods: %+v", pods.Items)
	}
	if err := json.Unmarshal([]byte(n.get("/runningpods/")), &pods); err != nil || len(pods.Items) != 1 {
		t.Errorf("/runningpods/: %+v %v", pods.Items, err)
	}
	if got := n.get("/configz"); !strings.Contains(got, `"kubeletconfig":{`) || !strings.Contains(got, `"maxPods":110`) {
		t.Errorf("/configz: %s", got)
	}
	if got := n.get("/logs/syslog"); got != "a line\n" {
		t.Errorf("/logs/syslog: %s", got)
	}
	if got := n.get("/logs/"); !strings.Contains(got, `href="syslog"`) {
		t.Errorf("/logs/: %s", got)
	}
	// A link out of the folder is not followed.
	if err := os.Symlink("/etc/passwd", filepath.Join(n.root, "var/log/out")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/logs/out", "/logs/../kubelet/pods", "/logs/%2e%2e/kubelet", "/nothing"} {
		w := httptest.NewRecorder()
		n.s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code == http.StatusOK {
			t.Errorf("GET %s answers %s", path, w.Body)
		}
	}
}

func TestRates(t *testing.T) {
	at := time.Unix(1000, 0)
	tests := []struct {
		name  string
		looks []struct {
			after, used time.Duration
		}
		began time.Time
		want  uint64
		ok    bool
	}{
		{name: "first look", looks: []struct{ after, used time.Duration }{{0, time.Second}}},
		{name: "first look at something young", looks: []struct{ after, used time.Duration }{{0, time.Second}}, began: at.Add(-10 * time.Second), want: 1e8, ok: true},
		{name: "two looks", looks: []struct{ after, used time.Duration }{{0, time.Second}, {10 * time.Second, 2 * time.Second}}, want: 1e8, ok: true},
		{name: "too soon", looks: []struct{ after, used time.Duration }{{0, time.Second}, {time.Second / 2, 2 * time.Second}}},
		{name: "soon again gives the same", looks: []struct{ after, used time.Duration }{{0, 0}, {10 * time.Second, time.Second}, {11 * time.Second, 9 * time.Second}}, want: 1e8, ok: true},
		{name: "counter began anew", looks: []struct{ after, used time.Duration }{{0, 5 * time.Second}, {10 * time.Second, time.Second}}},
		{name: "too long ago", looks: []struct{ after, used time.Duration }{{0, 5 * time.Second}, {time.Hour, 6 * time.Second}}},
		{name: "clock went back", looks: []struct{ after, used time.Duration }{{0, 5 * time.Second}, {-time.Hour, 6 * time.Second}}},
	}
	for _, test := range tests {
		var r rates
		var got rate
		var ok bool
		for _, look := range test.looks {
			r.forget(at.Add(look.after))
			got, ok = r.observe("k", at.Add(look.after), test.began, look.used)
		}
		if got.nanoCores != test.want || ok != test.ok {
			t.Errorf("%s: %d %v, want %d %v", test.name, got.nanoCores, ok, test.want, test.ok)
		}
	}
}

func FuzzProcFiles(f *testing.F) {
	f.Add("  eth0: 1 2 3 4 5 6 7 8 9 10 11 12", "eth0 00000000 0 0 0 0 0 00000000", "1 (x) S 1 2 3")
	f.Add(":", "\t\t", ")")
	f.Fuzz(func(t *testing.T, dev, route, stat string) {
		for _, l := range parseNetDev(dev) {
			if l.name == "" || l.name == "lo" {
				t.Errorf("link %q", l.name)
			}
		}
		parseRoute(route)
		parseStat(stat, time.Time{})
	})
}
