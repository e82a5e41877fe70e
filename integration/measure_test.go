package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// client is an API client without limits of its own.
func (c *cluster) client(t testing.TB) kubernetes.Interface {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.ContentType, config.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// createToReady creates n pods at once and returns how long it took until all were Ready.
func createToReady(s *space, n int, prefix string) time.Duration {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	pods := s.client(s.t).CoreV1().Pods(s.name)
	quiet(s.t)
	began := time.Now()
	var creates sync.WaitGroup
	errs := make(chan error, n) // one each, so that no create waits
	for i := range n {
		creates.Go(func() {
			_, err := pods.Create(ctx, plainPod(fmt.Sprintf("%s-%03d", prefix, i), s.image), metav1.CreateOptions{})
			errs <- err
		})
	}
	waitAllReady(ctx, s, pods, prefix, n)
	took := time.Since(began)
	creates.Wait()
	for range n {
		if err := <-errs; err != nil {
			s.t.Fatal(err)
		}
	}
	return took
}

// waitAllReady returns when n pods with this prefix are Ready. The server may end a watch whose reader is slow, as on a
// machine with all cores busy: then it lists and watches again, as every client must.
func waitAllReady(ctx context.Context, s *space, pods typedcorev1.PodInterface, prefix string, n int) {
	s.t.Helper()
	for ctx.Err() == nil {
		list, err := pods.List(ctx, metav1.ListOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		readyPods := map[string]bool{}
		see := func(p *corev1.Pod) {
			if strings.HasPrefix(p.Name, prefix+"-") && ready(p).Status == corev1.ConditionTrue {
				readyPods[p.Name] = true
			}
		}
		for i := range list.Items {
			see(&list.Items[i])
		}
		watch, err := pods.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		if err != nil {
			s.t.Fatal(err)
		}
		for open := true; open && len(readyPods) < n; {
			var e apiwatch.Event
			if e, open = <-watch.ResultChan(); open {
				if p, isPod := e.Object.(*corev1.Pod); isPod {
					see(p)
				}
			}
		}
		watch.Stop()
		if len(readyPods) >= n {
			return
		}
	}
	s.t.Fatalf("%d pods were not all Ready when the time was up", n)
}

func plainPod(name, image string) *corev1.Pod {
	grace := int64(0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "main", Image: image, Command: []string{"sleep", "3600"}}},
		},
	}
}

// deletePods deletes all pods of the space and returns how long it took until none was left.
func deletePods(s *space) time.Duration {
	s.t.Helper()
	began := time.Now()
	pods := s.client(s.t).CoreV1().Pods(s.name)
	ctx := context.Background()
	if err := pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.eventually(3*time.Minute, func() error {
		list, err := pods.List(ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			return fmt.Errorf("%d pods are left", len(list.Items))
		}
		return err
	})
	return time.Since(began)
}

// quiet waits until the machine has nothing to do, for a minute at most: the kernel takes seconds to tear down the network
// namespaces of a hundred containers, and what is measured meanwhile pays for them.
func quiet(t testing.TB) {
	t.Helper()
	last := machineCPU(t)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for range 120 {
		<-tick.C
		now := machineCPU(t)
		if now-last < 0.05 { // a tenth of a core
			return
		}
		last = now
	}
	t.Log("the machine did not become quiet; figures are too high")
}

// machineCPU is what all processes and the kernel have used so far, in seconds.
func machineCPU(t testing.TB) float64 {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	sum := 0.0
	for _, i := range []int{1, 2, 3, 6, 7} { // user, nice, system, irq, softirq: proc_stat(5)
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			t.Fatalf("/proc/stat begins %q", line)
		}
		sum += v
	}
	return sum / 100
}

// floor starts n containers of the same image and command with `ctr run -d` and runc, two at a time, and returns how
// long that took. It is what the machine itself costs, without a cluster.
func (c *cluster) floor(t testing.TB, n int) time.Duration {
	t.Helper()
	ctr := func(args ...string) {
		t.Helper()
		if _, err := output(nil, "", append([]string{"ctr", "--address", c.containerdSocket(), "--namespace", c.floorNamespace()}, args...)...); err != nil {
			t.Error(err)
		}
	}
	ctr("images", "pull", "--plain-http", c.image)
	quiet(t)
	began := time.Now()
	var workers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			for i := w; i < n; i += 2 {
				ctr("run", "--detach", "--runtime", "io.containerd.runc.v2", c.image, fmt.Sprintf("floor-%d", i), "sleep", "3600")
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	for i := range n {
		ctr("tasks", "kill", "--signal", "KILL", fmt.Sprintf("floor-%d", i))
	}
	for i := range n {
		_ = eventually(10*time.Second, func() error { // a task is deleted once its process is gone
			_, err := output(nil, "", "ctr", "--address", c.containerdSocket(), "--namespace", c.floorNamespace(), "tasks", "delete", fmt.Sprintf("floor-%d", i))
			if err != nil && strings.Contains(err.Error(), "not found") {
				return nil
			}
			return err
		})
		ctr("containers", "delete", fmt.Sprintf("floor-%d", i))
	}
	// ctr puts its containers' cgroups below one named as the namespace, and leaves that behind.
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + c.floorNamespace())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(groups, "/sys/fs/cgroup/"+c.floorNamespace()) {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
	return took
}

func (c *cluster) floorNamespace() string { return "coracle-floor-" + c.id }

// privateMB is the anonymous memory that only this process holds, in MB (10^6 bytes): what would be free without it.
func privateMB(t testing.TB, pid int) float64 { return smaps(t, pid, "Private_Dirty:") }

// pssMB is the process's proportional share of all memory it maps, in MB.
func pssMB(t testing.TB, pid int) float64 { return smaps(t, pid, "Pss:") }

func smaps(t testing.TB, pid int, field string) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 3 && f[0] == field {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb * 1024 / 1e6
		}
	}
	t.Fatalf("no %s in smaps_rollup of process %d", field, pid)
	return 0
}

// cpuSeconds is what a process has used so far, its ended children left out.
func cpuSeconds(t testing.TB, pid int) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3 on: proc(5)
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("/proc/%d/stat: %q", pid, b)
	}
	return (user + system) / 100 // USER_HZ is 100 on Linux
}

// writtenBytes is what a process has caused to be sent to disk.
func writtenBytes(t testing.TB, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no write_bytes in /proc/%d/io", pid)
	return 0
}

// shims are the processes of this cluster's containerd shims.
func (c *cluster) shims() []int {
	var pids []int
	for pid, cmdline := range processes() {
		if strings.Contains(cmdline, "containerd-shim") && strings.Contains(cmdline, c.containerdSocket()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nodePSS is the whole node's share of memory in MB: agent, log writer, containerd and shims.
func (c *cluster) nodePSS(t testing.TB) float64 {
	t.Helper()
	total := 0.0
	for _, pid := range append(c.shims(), c.agent.pid(), c.logs.pid(), c.containerd.pid()) {
		total += pssMB(t, pid)
	}
	return total
}
