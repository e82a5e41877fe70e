package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// busy uses a fifth of a core for ever, held there by its limit.
const busyPod = `
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: spin
    image: %[1]s
    command: ["sh", "-c", "head -c 8000000 /dev/zero > /cache/x; while :; do :; done"]
    resources: {limits: {cpu: 200m, memory: 64Mi}}
    volumeMounts: [{name: cache, mountPath: /cache}]
  - name: rest
    image: %[1]s
    command: ["sh", "-c", "echo hello; sleep 100000"]
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
  volumes: [{name: cache, emptyDir: {}}]
`

// TestMetricsOfTheNode asks through nodes/proxy what Prometheus, kubectl top and people ask of a kubelet.
func TestMetricsOfTheNode(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(busyPod, s.image))
	s.waitReady("busy")
	proxy := "/api/v1/nodes/" + s.node + "/proxy"

	s.cadvisorIsRight(t, proxy)
	s.resourceIsRight(proxy)
	s.kubeletIsRight(t, proxy)
	s.eventually(60*time.Second, func() error { return s.summaryIsRight(proxy) })
}

func (s *space) cadvisorIsRight(t *testing.T, proxy string) {
	t.Helper()
	text := s.do("get", "--raw", proxy+"/metrics/cadvisor")
	of := `container="%s",id="[^"]*",image="[^"]*",name="[^"]*",namespace="` + s.name + `",pod="busy"\} [0-9.e+]+ \d{13}`
	for _, line := range []string{
		`container_cpu_usage_seconds_total\{cpu="total",` + fmt.Sprintf(of, "spin"),
		`container_cpu_cfs_throttled_periods_total\{` + fmt.Sprintf(of, "spin"),
		`container_memory_working_set_bytes\{` + fmt.Sprintf(of, "rest"),
		`container_spec_memory_limit_bytes\{` + strings.Replace(fmt.Sprintf(of, "spin"), "[0-9.e+]+", `6.7108864e\+07`, 1),
		`container_spec_cpu_quota\{` + strings.Replace(fmt.Sprintf(of, "spin"), "[0-9.e+]+", "20000", 1),
		`container_start_time_seconds\{` + fmt.Sprintf(of, "rest"),
		`container_network_receive_bytes_total\{interface="eth0",` + fmt.Sprintf(of, ""),
		`container_cpu_usage_seconds_total\{cpu="total",container="",id="/",image="",name="",namespace="",pod=""\} [0-9.e+]+ \d{13}`,
		`machine_memory_bytes\{.*\} [0-9.e+]+`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(text) {
			t.Errorf("no line %s in:\n%s", line, text)
		}
	}
}

func (s *space) resourceIsRight(proxy string) {
	s.t.Helper()
	first := s.do("get", "--raw", proxy+"/metrics/resource")
	s.wantContains(first, `container_memory_working_set_bytes{container="rest",namespace="`+s.name+`",pod="busy"}`, "node_cpu_usage_seconds_total ",
		"node_memory_working_set_bytes ", `pod_memory_working_set_bytes{namespace="`+s.name+`",pod="busy"}`, "resource_scrape_error 0")
	series := `pod_cpu_usage_seconds_total{namespace="` + s.name + `",pod="busy"}`
	s.eventually(20*time.Second, func() error {
		if a, b := value(first, series), value(s.do("get", "--raw", proxy+"/metrics/resource"), series); b <= a {
			return fmt.Errorf("%s went from %v to %v", series, a, b)
		}
		return nil
	})
}

func (s *space) kubeletIsRight(t *testing.T, proxy string) {
	t.Helper()
	own := s.do("get", "--raw", proxy+"/metrics")
	s.wantContains(own, `kubelet_node_name{node="`+s.node+`"} 1`, "kubelet_running_pods ", `kubelet_running_containers{container_state="running"}`,
		"process_resident_memory_bytes ", "go_goroutines ", "kubelet_pod_start_duration_seconds_bucket{le=\"3600\"} ", "kubelet_certificate_manager_client_ttl_seconds ")
	if value(own, "kubelet_pod_start_duration_seconds_count") < 1 {
		t.Errorf("no pod was seen to start:\n%s", own)
	}
	if value(own, "process_resident_memory_bytes") < 1e6 || value(own, `kubelet_running_containers{container_state="running"}`) < 2 {
		t.Errorf("the agent says of itself:\n%s", own)
	}
	probes := s.do("get", "--raw", proxy+"/metrics/probes")
	series := `prober_probe_total{container="rest",namespace="` + s.name + `",pod="busy",pod_uid="` + string(s.pod("busy").UID) + `",probe_type="Readiness",result="successful"}`
	if value(probes, series) < 1 {
		t.Errorf("no %s in:\n%s", series, probes)
	}
	for _, form := range []string{s.node, s.node + ":10250", "https:" + s.node + ":10250", "https:" + s.node + ":", "http:" + s.node + ":10250"} {
		if got := s.do("get", "--raw", "/api/v1/nodes/"+form+"/proxy/healthz"); got != "ok" {
			t.Errorf("%s: /healthz answers %q", form, got)
		}
	}
	s.wantContains(s.do("get", "--raw", proxy+"/pods"), `"kind":"PodList"`, `"name":"busy"`, `"phase":"Running"`)
	s.wantContains(s.do("get", "--raw", proxy+"/configz"), `"kubeletconfig":{`, `"containerLogMaxSize":"10Mi"`)
	s.wantContains(s.do("get", "--raw", proxy+"/logs/"), "<pre>")
	s.wantContains(s.refused("get", "--raw", proxy+"/nothing"), "could not find the requested resource")
}

// value is that of a series; -1: it is not there.
func value(text, series string) float64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err == nil {
				return v
			}
		}
	}
	return -1
}

func (s *space) summaryIsRight(proxy string) error {
	text, err := s.kubectl("get", "--raw", proxy+"/stats/summary")
	if err != nil {
		return err
	}
	type amount struct {
		UsageNanoCores, WorkingSetBytes, UsedBytes, CapacityBytes, RxBytes uint64
	}
	var got struct {
		Node struct {
			NodeName                 string
			CPU, Memory, Fs, Network amount
			Runtime                  struct{ ImageFs amount }
		}
		Pods []struct {
			PodRef  struct{ Name, Namespace string }
			Network amount
			Volume  []struct {
				Name      string
				UsedBytes uint64
			}
			Containers []struct {
				Name                      string
				CPU, Memory, Rootfs, Logs amount
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return fmt.Errorf("read summary: %w", err)
	}
	if got.Node.NodeName != s.node || got.Node.CPU.UsageNanoCores == 0 || got.Node.Memory.WorkingSetBytes == 0 || got.Node.Fs.CapacityBytes == 0 || got.Node.Runtime.ImageFs.CapacityBytes == 0 {
		return fmt.Errorf("node: %+v", got.Node)
	}
	for _, p := range got.Pods {
		if p.PodRef.Namespace != s.name || p.PodRef.Name != "busy" {
			continue
		}
		if len(p.Containers) != 2 || p.Network.RxBytes == 0 {
			return fmt.Errorf("pod: %+v", p)
		}
		spin, rest := p.Containers[0], p.Containers[1]
		if spin.Name != "spin" {
			spin, rest = rest, spin
		}
		// The limit is a fifth of a core; a busy machine gives less.
		if spin.CPU.UsageNanoCores < 20e6 || spin.CPU.UsageNanoCores > 300e6 || rest.Memory.WorkingSetBytes == 0 || rest.Rootfs.UsedBytes == 0 || rest.Logs.UsedBytes == 0 {
			return fmt.Errorf("containers: %+v %+v", spin, rest)
		}
		for _, v := range p.Volume {
			if v.Name == "cache" && v.UsedBytes < 8000000 {
				return fmt.Errorf("volume: %+v", v)
			}
		}
		return nil
	}
	return fmt.Errorf("pod busy is not in the summary:\n%s", text)
}

// TestTop asks metrics.k8s.io, which has no server of its own here.
func TestTop(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(busyPod, s.image))
	s.apply(s.busybox("idle", sleeper))
	s.waitReady("busy", "idle")
	// The first answer comes at once, and it is one.
	top := s.do("top", "pod", "--containers")
	for _, line := range []string{`busy +spin +\d+m +\d+Mi`, `busy +rest +\d+m +\d+Mi`, `idle +\S+ +\d+m +\d+Mi`} {
		if !regexp.MustCompile(line).MatchString(top) {
			t.Errorf("kubectl top pod --containers printed:\n%s", top)
		}
	}
	s.eventually(60*time.Second, func() error {
		out := s.do("top", "pod", "-l", "app=busy", "--no-headers")
		var name, cpu string
		if _, err := fmt.Sscan(out, &name, &cpu); err != nil || name != "busy" || strings.Contains(out, "idle") {
			return fmt.Errorf("kubectl top pod -l printed %q, %w", out, err)
		}
		var milli int
		if _, err := fmt.Sscanf(cpu, "%dm", &milli); err != nil || milli < 20 || milli > 300 {
			return fmt.Errorf("the busy pod uses %s: %q", cpu, out)
		}
		return nil
	})
	if out := s.do("top", "node"); !regexp.MustCompile(s.node + ` +\d+m +\d+% +\d+Mi +\d+%`).MatchString(out) {
		t.Errorf("kubectl top node printed:\n%s", out)
	}
	s.wantContains(s.do("top", "pod", "--sum", "--sort-by=cpu"), "busy", "idle")
	s.wantContains(s.do("get", "pods.metrics.k8s.io"), "NAME", "CPU", "MEMORY", "WINDOW", "busy")
	s.wantContains(s.refused("get", "pods.metrics.k8s.io", "none"), `pods.metrics.k8s.io "`+s.name+`/none" not found`)
	s.wantContains(s.do("get", "--raw", "/apis/metrics.k8s.io/v1beta1"), `"name":"nodes"`, `"kind":"NodeMetrics"`, `"name":"pods"`, `"kind":"PodMetrics"`)
	s.wantContains(s.do("explain", "pods.containers", "--api-version=metrics.k8s.io/v1beta1"), "PodMetrics", "usage")
	s.wantContains(s.do("api-resources", "--api-group=metrics.k8s.io"), "NodeMetrics", "PodMetrics")
	// A bare name still means the core group's.
	s.wantContains(s.do("get", "pods", "idle", "-o", "name"), "pod/idle")
	var list metricsv1beta1.PodMetricsList
	if err := json.Unmarshal([]byte(s.do("get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/"+s.name+"/pods?labelSelector=app%3Dbusy")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Window.Duration <= 0 || time.Since(list.Items[0].Timestamp.Time) > time.Minute {
		t.Errorf("metrics of the busy pod: %+v", list)
	}
	// Whoever may view may see what is used.
	s.do("create", "serviceaccount", "viewer")
	s.do("create", "rolebinding", "viewer", "--clusterrole=view", "--serviceaccount="+s.name+":viewer")
	viewer := "--as=system:serviceaccount:" + s.name + ":viewer"
	s.eventually(20*time.Second, func() error { _, err := s.kubectl("top", "pod", viewer); return err })
	s.wantContains(s.refused("top", "node", viewer), "forbidden")
}

// TestHealthAndMetricsOfTheControlPlane asks what monitoring asks of an API server.
func TestHealthAndMetricsOfTheControlPlane(t *testing.T) {
	s := newSpace(t)
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/livez/ping", "/readyz/ping", "/healthz/ping", "/readyz/etcd", "/livez?exclude=etcd"} {
		if got := s.do("get", "--raw", path); got != "ok" {
			t.Errorf("%s answers %q", path, got)
		}
	}
	s.wantContains(s.do("get", "--raw", "/readyz?verbose"), "[+]ping ok", "[+]etcd ok", "[+]informer-sync ok", "readyz check passed")
	s.wantContains(s.do("get", "--raw", "/livez?verbose"), "[+]ping ok", "livez check passed")
	s.wantContains(s.do("get", "--raw", "/metrics"), "apiserver_request_total{", "apiserver_request_duration_seconds_bucket{", "process_resident_memory_bytes ", "go_goroutines ",
		`kubernetes_build_info{`, "apiserver_current_inflight_requests{", "workqueue_depth")
	s.wantContains(s.do("get", "--raw", "/metrics/slis"), "kubernetes_healthcheck{")
	s.wantContains(s.do("get", "--raw", "/version"), `"gitVersion"`)
}
