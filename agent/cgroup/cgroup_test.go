package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

func list(pairs ...string) v1.ResourceList {
	out := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func with(requests, limits v1.ResourceList) v1.Container {
	return v1.Container{Resources: v1.ResourceRequirements{Requests: requests, Limits: limits}}
}

func TestLimitsOf(t *testing.T) {
	sidecar := with(list("cpu", "50m"), list("cpu", "100m", "memory", "10Mi"))
	sidecar.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	whole := list("cpu", "500m", "memory", "64Mi")
	tests := []struct {
		name string
		spec v1.PodSpec
		want Limits
		qos  v1.PodQOSClass
	}{
		{"nothing", v1.PodSpec{Containers: []v1.Container{{}}}, Limits{Shares: 2, Period: 100000}, v1.PodQOSBestEffort},
		{"guaranteed", v1.PodSpec{Containers: []v1.Container{with(whole, whole)}}, Limits{Shares: 512, Period: 100000, Quota: 50000, Memory: 64 << 20}, v1.PodQOSGuaranteed},
		{"limits only", v1.PodSpec{Containers: []v1.Container{with(nil, whole)}}, Limits{Shares: 2, Period: 100000, Quota: 50000, Memory: 64 << 20}, v1.PodQOSGuaranteed},
		{"one without limit", v1.PodSpec{Containers: []v1.Container{with(list("cpu", "100m"), list("cpu", "1", "memory", "1Gi")), with(list("cpu", "100m"), list("cpu", "1"))}},
			Limits{Shares: 204, Period: 100000, Quota: 200000}, v1.PodQOSBurstable},
		{"init container larger", v1.PodSpec{InitContainers: []v1.Container{with(list("cpu", "2"), list("cpu", "2", "memory", "1Gi"))}, Containers: []v1.Container{with(whole, whole)}},
			Limits{Shares: 2048, Period: 100000, Quota: 200000, Memory: 1 << 30}, v1.PodQOSGuaranteed},
		{"sidecar", v1.PodSpec{InitContainers: []v1.Container{sidecar}, Containers: []v1.Container{with(whole, whole)}},
			Limits{Shares: 563, Period: 100000, Quota: 60000, Memory: 74 << 20}, v1.PodQOSBurstable},
		{"overhead", v1.PodSpec{Overhead: list("cpu", "250m", "memory", "1Mi"), Containers: []v1.Container{with(whole, whole)}},
			Limits{Shares: 768, Period: 100000, Quota: 75000, Memory: 65 << 20}, v1.PodQOSGuaranteed},
		{"pod level", v1.PodSpec{Resources: &v1.ResourceRequirements{Requests: whole, Limits: whole}, Containers: []v1.Container{{}}},
			Limits{Shares: 512, Period: 100000, Quota: 50000, Memory: 64 << 20}, v1.PodQOSGuaranteed},
		{"tiny", v1.PodSpec{Containers: []v1.Container{with(list("cpu", "1m"), list("cpu", "1m"))}}, Limits{Shares: 2, Period: 100000, Quota: 1000}, v1.PodQOSBurstable},
	}
	for _, test := range tests {
		pod := &v1.Pod{Spec: test.spec}
		if diff := cmp.Diff(test.want, LimitsOf(pod)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		if got := QOSOf(pod); got != test.qos {
			t.Errorf("%s: class %s, want %s", test.name, got, test.qos)
		}
	}
}

// The kernel refuses values outside of its bounds; more asked for is never less given.
func TestConversionsStayInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Int64Range(-10, 1<<40).Draw(t, "a")
		b := rapid.Int64Range(a, 1<<40).Draw(t, "b")
		sa, sb := SharesOf(a), SharesOf(b)
		wa, wb := WeightOf(sa), WeightOf(sb)
		if sa < 2 || sb > 262144 || sa > sb || wa < 1 || wb > 10000 || wa > wb {
			t.Fatalf("%d → %d → %d, %d → %d → %d", a, sa, wa, b, sb, wb)
		}
		if WeightOf(1024) != 100 {
			t.Fatal("the default of v1 is not the default of v2")
		}
		if back := WeightOf(int64(sharesOfWeight(uint64(wb)))); back != wb && back != wb-1 && back != wb+1 {
			t.Fatalf("weight %d is of shares %d, whose weight is %d", wb, sharesOfWeight(uint64(wb)), back)
		}
		if q := QuotaOf(b); b > 0 && q < 1000 || b <= 0 && q != 0 {
			t.Fatalf("quota of %d is %d", b, q)
		}
	})
}

func TestParseMountinfo(t *testing.T) {
	text := `25 30 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw
27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
28 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
29 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
40 25 0:26 / /elsewhere/memory rw - cgroup cgroup rw,memory
broken
`
	got, err := parseMountinfo(strings.NewReader(text), "/sys/fs/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"unified": "/sys/fs/cgroup/unified", "name=systemd": "/sys/fs/cgroup/systemd", "cpu": "/sys/fs/cgroup/cpu,cpuacct",
		"cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory",
	}
	if diff := cmp.Diff(want, got.points); diff != "" || got.unified {
		t.Error(diff)
	}
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add("29 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMountinfo(strings.NewReader(text), "/sys/fs/cgroup")
		for controller, point := range m.points {
			if err == nil && (controller == "rw" || !strings.HasPrefix(point, "/sys/fs/cgroup/")) {
				t.Errorf("%q at %q", controller, point)
			}
		}
	})
}

func TestSliceNames(t *testing.T) {
	c := &Cgroups{systemd: true}
	const uid = types.UID("12ab-34")
	for _, qos := range classes {
		name, err := groupName(uid)
		if err != nil {
			t.Fatal(err)
		}
		unit := c.slice(qos, name)
		if got, ok := c.uidOfSlice(qos, unit); !ok || got != uid {
			t.Errorf("slice %s is of pod %q", unit, got)
		}
		if path := c.slicePath(qos, name); filepath.Base(path) != unit || !strings.HasPrefix(path, "coracle.slice/") {
			t.Errorf("path of %s is %s", unit, path)
		}
	}
	if got := c.slicePath("burstable", "pod12ab-34"); got != "coracle.slice/coracle-burstable.slice/coracle-burstable-pod12ab_34.slice" {
		t.Error(got)
	}
	got := strings.Join(sliceProperties(Limits{Shares: 512, Quota: 50000, Period: 100000, Memory: 1 << 20}, true, false), " ")
	if got != "CPUWeight=59 CPUQuota=50% MemoryMax=1048576 TasksMax=infinity CPUAccounting=yes MemoryAccounting=yes" {
		t.Error(got)
	}
}

func TestOddUIDs(t *testing.T) {
	for _, uid := range []types.UID{"", "..", "a/b", "a\nb", ".x"} {
		if _, err := groupName(uid); err == nil {
			t.Errorf("uid %q was taken", uid)
		}
	}
}

// newTree is a tree of the test's own on the machine's cgroups.
func newTree(t *testing.T) *Cgroups {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make cgroups")
	}
	root := fmt.Sprintf("/coraclecgtest%d", os.Getpid())
	c, err := New(Config{Root: root, Driver: DriverCgroupfs, PodPids: 100, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		for _, mount := range c.hierarchies {
			for _, sub := range []string{"coracle/burstable", "coracle/besteffort", "coracle", ""} {
				_ = os.Remove(filepath.Join(mount, root, sub)) // empty by now, or the test has failed
			}
		}
	})
	return c
}

func (c *Cgroups) read(t *testing.T, controller, parent, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.hierarchies[controller], parent, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// files are what the tests read of a group, in both versions.
type files struct{ controller, name string }

func (c *Cgroups) file(what string) files {
	if c.unified {
		return map[string]files{
			"cpu": {"", "cpu.weight"}, "quota": {"", "cpu.max"}, "memory": {"", "memory.max"}, "pids": {"", "pids.max"},
		}[what]
	}
	return map[string]files{
		"cpu": {"cpu", "cpu.shares"}, "quota": {"cpu", "cpu.cfs_quota_us"}, "memory": {"memory", "memory.limit_in_bytes"}, "pids": {"pids", "pids.max"},
	}[what]
}

// wantGroup compares a group's values; shares and quotas are given as v1 has them.
func (c *Cgroups) wantGroup(t *testing.T, when, parent string, want map[string]string) {
	t.Helper()
	for what, value := range want {
		f := c.file(what)
		if n, err := strconv.ParseInt(value, 10, 64); c.unified && err == nil {
			switch {
			case what == "cpu":
				value = fmt.Sprint(WeightOf(n))
			case what == "quota":
				value = orMax(max(n, 0)) + " 100000"
			case what == "memory" && n < 0:
				value = "max"
			}
		}
		got := c.read(t, f.controller, parent, f.name)
		if !c.unified && what == "memory" && value == "-1" {
			if n, err := strconv.ParseInt(got, 10, 64); err == nil && n >= unlimitedMemory {
				got = "-1"
			}
		}
		if got != value {
			t.Errorf("%s: %s of %s is %s, want %s", when, f.name, parent, got, value)
		}
	}
}

func podOf(uid types.UID, containers ...v1.Container) *v1.Pod {
	p := &v1.Pod{Spec: v1.PodSpec{Containers: containers}}
	p.UID = uid
	return p
}

func TestPodGroups(t *testing.T) {
	c := newTree(t)
	ctx := t.Context()
	if err := c.EnsureNode(ctx, NodeLimits{MilliCPU: 2000, Memory: 1 << 30, Pids: 5000}); err != nil {
		t.Fatal(err)
	}
	c.wantGroup(t, "the node", c.cfg.Root+"/coracle", map[string]string{"cpu": "2048", "memory": "1073741824", "pids": "5000"})
	whole := list("cpu", "500m", "memory", "64Mi")
	a := podOf("a", with(whole, whole))
	parent, err := c.EnsurePod(ctx, a)
	if err != nil || parent != c.cfg.Root+"/coracle/poda" {
		t.Fatalf("parent %q, %v", parent, err)
	}
	c.wantGroup(t, "made", parent, map[string]string{"cpu": "512", "quota": "50000", "memory": "67108864", "pids": "100"})
	if _, err := c.EnsurePod(ctx, a); err != nil {
		t.Errorf("made again: %v", err)
	}
	c.resizes(t, a, parent)
	c.wantHugePages(t)
	for _, uid := range []types.UID{"b", "c"} {
		if _, err := c.EnsurePod(ctx, podOf(uid, with(list("cpu", "250m"), nil))); err != nil {
			t.Fatal(err)
		}
	}
	parent, err = c.EnsurePod(ctx, podOf("d", v1.Container{}))
	if err != nil {
		t.Fatal(err)
	}
	c.wantGroup(t, "best effort", parent, map[string]string{"cpu": "2", "quota": "-1", "memory": "-1"})
	sum := "512"
	if c.unified {
		sum = fmt.Sprint(2 * WeightOf(256))
	}
	if f := c.file("cpu"); c.read(t, f.controller, c.cfg.Root+"/coracle/burstable", f.name) != sum {
		t.Errorf("weight of two burstable pods: %s, want %s", c.read(t, f.controller, c.cfg.Root+"/coracle/burstable", f.name), sum)
	}
	c.wantGroup(t, "the class", c.cfg.Root+"/coracle/besteffort", map[string]string{"cpu": "2"})
	pods, err := c.Pods(ctx)
	if diff := cmp.Diff(map[types.UID]bool{"a": true, "b": true, "c": true, "d": true}, pods); diff != "" || err != nil {
		t.Errorf("Pods: %s %v", diff, err)
	}
	c.busyGroup(t)
	for uid := range pods {
		if err := c.RemovePod(ctx, uid); err != nil {
			t.Error(err)
		}
		if err := c.RemovePod(ctx, uid); err != nil {
			t.Errorf("removed again: %v", err)
		}
	}
	if pods, err := c.Pods(ctx); len(pods) > 0 || err != nil {
		t.Errorf("left: %v %v", pods, err)
	}
}

// wantHugePages: a pod has those that it asks for, and no other size; without the controller it is refused.
func (c *Cgroups) wantHugePages(t *testing.T) {
	t.Helper()
	p := podOf("huge", with(list("hugepages-2Mi", "4Mi", "memory", "8Mi"), list("hugepages-2Mi", "4Mi", "memory", "8Mi")))
	parent, err := c.EnsurePod(t.Context(), p)
	defer func() {
		if err := c.RemovePod(t.Context(), p.UID); err != nil {
			t.Error(err)
		}
	}()
	if !slices.Contains(c.pageSizes, "2MB") {
		if err == nil || !strings.Contains(err.Error(), "huge pages of 2MB cannot be given") {
			t.Errorf("huge pages without the controller: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range c.pageSizes {
		want := map[string]string{"2MB": "4194304"}[size]
		if want == "" {
			want = "0"
		}
		controller, file := "hugetlb", "hugetlb."+size+".limit_in_bytes"
		if c.unified {
			controller, file = "", "hugetlb."+size+".max"
		}
		if got := c.read(t, controller, parent, file); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
	}
}

// resizes gives a pod other limits: loosening raises and never lowers, ensuring sets, and refuses what is in use.
func (c *Cgroups) resizes(t *testing.T, a *v1.Pod, parent string) {
	t.Helper()
	ctx := t.Context()
	to := func(cpu, memory string) {
		a.Spec.Containers[0] = with(list("cpu", cpu, "memory", memory), list("cpu", cpu, "memory", memory))
	}
	to("1", "32Mi")
	if err := c.LoosenPod(ctx, a); err != nil {
		t.Error(err)
	}
	c.wantGroup(t, "loosened", parent, map[string]string{"cpu": "1024", "quota": "100000", "memory": "67108864"})
	if _, err := c.EnsurePod(ctx, a); err != nil {
		t.Error(err)
	}
	c.wantGroup(t, "resized", parent, map[string]string{"cpu": "1024", "quota": "100000", "memory": "33554432"})
	to("250m", "128Mi")
	if _, err := c.EnsurePod(ctx, a); err != nil {
		t.Error(err)
	}
	c.wantGroup(t, "resized again", parent, map[string]string{"cpu": "256", "quota": "25000", "memory": "134217728"})
}

// A group's memory limit does not go below what is in use: the kernel would kill for it.
func TestLowers(t *testing.T) {
	for _, test := range []struct {
		present, want, used int64
		refused             bool
	}{
		{0, 0, 5, false}, {10, 0, 5, false}, {0, 4, 5, true}, {10, 4, 5, true}, {10, 5, 5, false}, {10, 20, 15, false}, {10, 10, 12, false},
	} {
		err := lowers(test.present, test.want, test.used)
		if (err != nil) != test.refused {
			t.Errorf("from %d to %d with %d used: %v", test.present, test.want, test.used, err)
		}
	}
}

func TestPageSizes(t *testing.T) {
	for name, want := range map[v1.ResourceName]string{
		"hugepages-2Mi": "2MB", "hugepages-1Gi": "1GB", "hugepages-64Ki": "64KB", "hugepages-16Gi": "16GB", "hugepages-1024Mi": "1GB",
	} {
		if got, ok := PageSize(name); got != want || !ok {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	for _, name := range []v1.ResourceName{"memory", "hugepages-", "hugepages-x", "hugepages--2Mi", "hugepages-0"} {
		if got, ok := PageSize(name); ok {
			t.Errorf("%s is %q", name, got)
		}
	}
	want := map[string]int64{"2MB": 4 << 20}
	p := podOf("a", with(list("hugepages-2Mi", "4Mi"), list("hugepages-2Mi", "4Mi")))
	if diff := cmp.Diff(want, LimitsOf(p).HugePages); diff != "" {
		t.Error(diff)
	}
	c := &Cgroups{}
	if err := c.checkPageSizes(LimitsOf(p)); err == nil || !strings.Contains(err.Error(), "2MB") || !strings.Contains(err.Error(), "none") {
		t.Errorf("huge pages without their controller: %v", err)
	}
	c.pageSizes = []string{"1GB", "2MB"}
	if err := c.checkPageSizes(LimitsOf(p)); err != nil {
		t.Error(err)
	}
}

// What the kernel lacks is refused where a pod asks for it, and nowhere else.
func TestNoBandwidth(t *testing.T) {
	dir := t.TempDir()
	for _, set := range []func(string, Limits) error{setQuota, setMax} {
		if err := set(dir, Limits{Period: quotaPeriod}); err != nil {
			t.Errorf("without a limit: %v", err)
		}
		if err := set(dir, Limits{Period: quotaPeriod, Quota: 5000}); !errors.Is(err, errNoQuota) {
			t.Errorf("with a limit: %v", err)
		}
	}
}

// Memory that pods ask for is reserved for them, and by every group above them.
func TestReserveMemory(t *testing.T) {
	c := newTree(t)
	if !c.unified {
		if _, err := New(Config{Driver: DriverCgroupfs, ReserveMemory: true, Log: c.cfg.Log}); err == nil || !strings.Contains(err.Error(), "v2") {
			t.Errorf("reserved memory on cgroup v1: %v", err)
		}
		return
	}
	c.cfg.ReserveMemory = true
	whole := list("cpu", "100m", "memory", "64Mi")
	guaranteed, burstable := podOf("a", with(whole, whole)), podOf("b", with(list("memory", "32Mi"), nil))
	for _, p := range []*v1.Pod{guaranteed, burstable} {
		if _, err := c.EnsurePod(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	for group, want := range map[string][2]string{
		"/coracle/poda": {"67108864", "0"}, "/coracle/burstable/podb": {"0", "33554432"}, "/coracle/burstable": {"0", "33554432"}, "/coracle": {"67108864", "33554432"},
	} {
		if got := [2]string{c.read(t, "", c.cfg.Root+group, "memory.min"), c.read(t, "", c.cfg.Root+group, "memory.low")}; got != want {
			t.Errorf("%s reserves %v, want %v", group, got, want)
		}
	}
	for _, uid := range []types.UID{"a", "b"} {
		if err := c.RemovePod(t.Context(), uid); err != nil {
			t.Error(err)
		}
	}
	if got := c.read(t, "", c.cfg.Root+"/coracle", "memory.min"); got != "0" {
		t.Errorf("%s is reserved for no pods", got)
	}
}

// busyGroup has a process in pod a's group: removal fails naming it, and waits for one that ends.
func (c *Cgroups) busyGroup(t *testing.T) {
	t.Helper()
	dir := filepath.Join(c.hierarchies[c.file("pids").controller], c.cfg.Root, "coracle/poda/inner")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.RemovePod(ctx, "a")
	if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("removed a busy group: %v", err)
	}
	_ = cmd.Process.Kill()
	if err := c.RemovePod(t.Context(), "a"); err != nil { // not reaped yet: it waits
		t.Errorf("remove after the kill: %v", err)
	}
	_ = cmd.Wait()
}

func TestConfig(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if _, err := New(Config{}); err == nil {
		t.Error("made without a logger")
	}
	if _, err := New(Config{Driver: "other", Log: log}); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("unknown driver: %v", err)
	}
	if _, err := New(Config{MountRoot: filepath.Join(t.TempDir(), "none"), Log: log}); err == nil || !strings.Contains(err.Error(), "mount") {
		t.Errorf("no cgroups: %v", err)
	}
}

// With systemd pods' groups are slices; they have their limits, and are gone with their drop-ins afterwards.
func TestPodSlices(t *testing.T) {
	if !systemdRuns() || os.Geteuid() != 0 {
		t.Skip("needs root and systemd as the first process")
	}
	c, err := New(Config{Driver: DriverSystemd, PodPids: 100, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{with(list("cpu", "500m"), list("cpu", "1234m", "memory", "64Mi"))}}}
	pod.UID = types.UID(fmt.Sprintf("0000-%d", os.Getpid()))
	for range 2 {
		parent, err := c.EnsurePod(t.Context(), pod)
		if err != nil || !strings.HasPrefix(parent, "coracle-burstable-pod0000_") {
			t.Fatalf("parent %q, %v", parent, err)
		}
	}
	dir := c.slicePath("burstable", podPrefix+string(pod.UID))
	c.wantGroup(t, "made", dir, map[string]string{"cpu": "512", "quota": "124000", "memory": "67108864", "pids": "100"})
	if err := c.EnsureNode(t.Context(), NodeLimits{MilliCPU: 2000, Memory: 1 << 30, Pids: 5000}); err != nil {
		t.Fatal(err)
	}
	c.wantGroup(t, "the node", c.slicePath("", ""), map[string]string{"cpu": "2048", "memory": "1073741824", "pids": "5000"})
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.wantGroup(t, "reloaded", dir, map[string]string{"cpu": "512", "quota": "124000", "memory": "67108864", "pids": "100"})
	if pods, err := c.Pods(t.Context()); !pods[pod.UID] || err != nil {
		t.Errorf("Pods: %v %v", pods, err)
	}
	for range 2 {
		if err := c.RemovePod(t.Context(), pod.UID); err != nil {
			t.Error(err)
		}
	}
	if pods, err := c.Pods(t.Context()); pods[pod.UID] || err != nil {
		t.Errorf("left: %v %v", pods, err)
	}
	if left, _ := filepath.Glob("/run/systemd/*/coracle-burstable-pod0000_*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
