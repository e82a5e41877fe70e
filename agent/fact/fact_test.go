package fact

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// machine makes a root folder with the given files.
func machine(t *testing.T, files map[string]string) Host {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Host{Root: root}
}

// A 32-bit ARM board: one "Processor" line for the machine, no model for each core, no DMI, no
// machine id, a serial number that ends in NUL.
const armCPUInfo = `Processor	: ARMv7 Processor rev 4 (v7l)
processor	: 0
BogoMIPS	: 38.40

processor	: 1
BogoMIPS	: 38.40

Features	: half thumb fastmult vfp edsp neon
Hardware	: BCM2835
Serial		: 00000000abcdef01
`

func TestOddBoard(t *testing.T) {
	h := machine(t, map[string]string{
		"proc/cpuinfo":                   armCPUInfo,
		"proc/meminfo":                   "MemTotal:         999036 kB\nMemFree:          100000 kB\nBuffers:           1000 kB\nCached:           50000 kB\nHugePages_Total:       0\nOdd line\nSwapTotal: x kB\n",
		"proc/device-tree/serial-number": "10000000ABCDEF01\x00",
		"proc/sys/kernel/pid_max":        "32768\n",
		"proc/loadavg":                   "0.00 0.01 0.05 2/345 6789\n",
		"usr/lib/os-release":             "NAME=x\nPRETTY_NAME=\"Raspbian 10\"\n",
	})
	f, err := h.Read(h.Root, "arm")
	if err != nil {
		t.Fatal(err)
	}
	f.Disk = Disk{}
	want := Facts{
		CPUs: 2, Memory: Memory{Total: 999036 << 10, Available: 151000 << 10}, Pids: Pids{Max: 32768, Used: 345},
		SystemUUID: "10000000abcdef01", OSImage: "Raspbian 10", Arch: "arm",
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
}

func TestBareRoot(t *testing.T) {
	h := machine(t, nil)
	f, err := h.Read(h.Root, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if f.CPUs < 1 || f.OSImage != "Linux" || f.Memory.Total != 0 || f.BootID != "" {
		t.Errorf("facts %+v", f)
	}
	// A Node can be made of nothing.
	f.Disk = Disk{}
	n := Node(time.Now(), f, Settings{Name: "n", MaxPods: 110}, Live{}, nil)
	if n.Labels[v1.LabelHostname] != "n" || n.Status.Allocatable.Memory().Sign() != 0 {
		t.Errorf("node %+v", n)
	}
}

func TestCountList(t *testing.T) {
	for in, want := range map[string]int{
		"0": 1, "0-3": 4, "0,2-3,8": 4, "": 0, "0-": 0, "3-1": 0, "a": 0, "-1": 0, "0-99999999": 0, "0, 1": 2,
	} {
		if got := countList(in); got != want {
			t.Errorf("countList(%q) = %d, want %d", in, got, want)
		}
	}
}

func TestHugePages(t *testing.T) {
	h := machine(t, map[string]string{
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages":    "3\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "0\n",
		"sys/kernel/mm/hugepages/hugepages-64kB/nr_hugepages":      "junk\n",
		"sys/kernel/mm/hugepages/something/nr_hugepages":           "9\n",
	})
	f := Facts{HugePages: h.HugePages(), Memory: Memory{Total: 1 << 30}}
	list := Capacity(f, 110)
	for name, want := range map[v1.ResourceName]string{"hugepages-2Mi": "6Mi", "hugepages-1Gi": "0", "hugepages-64Ki": "0"} {
		if q, ok := list[name]; !ok || q.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("%s: %v %v, want %s", name, q.String(), ok, want)
		}
	}
	memory := Allocatable(list, nil)[v1.ResourceMemory]
	if want := int64(1<<30 - 6<<20); memory.Value() != want {
		t.Errorf("allocatable memory %d, want %d", memory.Value(), want)
	}
}

func TestAllocatable(t *testing.T) {
	capacity := v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("2"), v1.ResourceMemory: resource.MustParse("1Gi"),
		v1.ResourceEphemeralStorage: resource.MustParse("10Gi"), v1.ResourcePods: resource.MustParse("110"),
	}
	got := Allocatable(capacity, v1.ResourceList{v1.ResourceCPU: resource.MustParse("500m"), v1.ResourceMemory: resource.MustParse("2Gi")})
	for name, want := range map[v1.ResourceName]string{
		v1.ResourceCPU: "1500m", v1.ResourceMemory: "0", v1.ResourceEphemeralStorage: "10Gi", v1.ResourcePods: "110",
	} {
		if q := got[name]; q.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("%s: %s, want %s", name, q.String(), want)
		}
	}
	if q := capacity[v1.ResourceCPU]; q.String() != "2" {
		t.Errorf("the capacity was changed to %s", q.String())
	}
}

func TestPressures(t *testing.T) {
	for _, test := range []struct {
		in   []v1.NodeConditionType
		want string
	}{
		{nil, "False KubeletHasSufficientMemory False KubeletHasNoDiskPressure False KubeletHasSufficientPID "},
		{[]v1.NodeConditionType{v1.NodeDiskPressure}, "False KubeletHasSufficientMemory True KubeletHasDiskPressure False KubeletHasSufficientPID "},
		{[]v1.NodeConditionType{v1.NodeMemoryPressure, v1.NodePIDPressure}, "True KubeletHasInsufficientMemory False KubeletHasNoDiskPressure True KubeletHasInsufficientPID "},
	} {
		got := ""
		for _, c := range Pressures(test.in) {
			got += string(c.Status) + " " + c.Reason + " "
		}
		if got != test.want {
			t.Errorf("%v: %s, want %s", test.in, got, test.want)
		}
	}
}

func TestNode(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	f := Facts{CPUs: 4, Memory: Memory{Total: 8 << 30, Available: 4 << 30, SwapTotal: 1 << 30}, Disk: Disk{Total: 1 << 40}, MachineID: "m", BootID: "b", Kernel: "6.1", OSImage: "Debian", Arch: "amd64"}
	s := Settings{
		Name: "n1", Labels: map[string]string{"zone": "a"}, MaxPods: 110, Version: "v1.37.2+coracle",
		Taints: []v1.Taint{{Key: "k", Effect: v1.TaintEffectNoSchedule}},
	}
	live := Live{
		Hostname: "host", Addresses: []string{"10.0.0.1", "fd00::1"}, RuntimeVersion: "containerd://2.1.0",
		Images:   []v1.ContainerImage{{Names: []string{"small"}, SizeBytes: 1}, {Names: []string{"b", "a"}, SizeBytes: 9}},
		Pressure: Pressures(nil),
	}
	n := Node(now, f, s, live, nil)
	if n.Labels["zone"] != "a" || n.Labels[v1.LabelHostname] != "host" || n.Labels[v1.LabelArchStable] != "amd64" || len(n.Spec.Taints) != 1 {
		t.Errorf("metadata %+v %+v", n.ObjectMeta, n.Spec)
	}
	want := []v1.NodeAddress{{Type: "InternalIP", Address: "10.0.0.1"}, {Type: "InternalIP", Address: "fd00::1"}, {Type: "Hostname", Address: "host"}}
	if diff := cmp.Diff(want, n.Status.Addresses); diff != "" {
		t.Error(diff)
	}
	if n.Status.Images[0].Names[0] != "a" || n.Status.NodeInfo.Swap == nil || n.Status.NodeInfo.KubeletVersion != "v1.37.2+coracle" {
		t.Errorf("status %+v", n.Status)
	}
	if c := condition(n, v1.NodeReady); c.Status != v1.ConditionTrue || c.Reason != "KubeletReady" {
		t.Errorf("ready %+v", c)
	}

	// Nothing changed, an hour later: equal, so nothing is sent.
	live.Images[0], live.Images[1] = live.Images[1], live.Images[0]
	later := now.Add(time.Hour)
	again := Node(later, f, s, live, n)
	if diff := cmp.Diff(n, again); diff != "" {
		t.Errorf("a node at rest changed:\n%s", diff)
	}

	live.Problems = []string{"containerd does not answer"}
	broken := Node(later, f, s, live, again)
	c := condition(broken, v1.NodeReady)
	if c.Status != v1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "containerd does not answer" || !c.LastTransitionTime.Time.Equal(later) {
		t.Errorf("ready %+v", c)
	}
	if p := condition(broken, v1.NodeDiskPressure); !p.LastTransitionTime.Time.Equal(now) {
		t.Errorf("an unchanged condition moved: %+v", p)
	}
	// Another cause is told, and is no transition.
	live.Problems = []string{"no CNI network"}
	other := condition(Node(later.Add(time.Minute), f, s, live, broken), v1.NodeReady)
	if !other.LastTransitionTime.Time.Equal(later) || other.Message != "no CNI network" {
		t.Errorf("ready %+v", other)
	}
}

func condition(n *v1.Node, t v1.NodeConditionType) v1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == t {
			return c
		}
	}
	return v1.NodeCondition{}
}

// The machine itself has facts.
func TestThisMachine(t *testing.T) {
	f, err := Host{Root: "/"}.Read("/", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	if f.CPUs < 1 || f.Memory.Total == 0 || f.Memory.Available > f.Memory.Total || f.Disk.Total == 0 || f.BootID == "" || f.Kernel == "" || f.Pids.Max == 0 {
		t.Errorf("facts %+v", f)
	}
	if _, err := ReadDisk("/no/such/folder"); err == nil {
		t.Error("no error about a folder that is not there")
	}
}

func FuzzMeminfo(f *testing.F) {
	f.Add("MemTotal: 1 kB\nMemAvailable: 2 kB\n")
	f.Fuzz(func(t *testing.T, text string) {
		m := parseMeminfo(text)
		if m.Total < 0 || m.Available < 0 || m.Available > m.Total {
			t.Errorf("%+v of %q", m, text)
		}
	})
}

func FuzzCountList(f *testing.F) {
	f.Add("0-3,7")
	f.Fuzz(func(t *testing.T, s string) {
		if n := countList(s); n < 0 {
			t.Errorf("countList(%q) = %d", s, n)
		}
	})
}

func TestLimits(t *testing.T) {
	if c := Limits(nil); c.Status != v1.ConditionTrue {
		t.Errorf("nothing is missing: %+v", c)
	}
	if c := Limits([]string{"one", "two"}); c.Status != v1.ConditionFalse || c.Message != "one; two" {
		t.Errorf("two are missing: %+v", c)
	}
}

// What has two names counts once, and a folder that is not there is no folder of size 0.
func TestDirSize(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "below", "a")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	once, _, ok := DirSize(dir)
	if !ok || once < 1<<20 || once > 1<<20+1<<16 {
		t.Errorf("a megabyte is %d bytes, %v", once, ok)
	}
	if err := os.Link(file, filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if twice, _, _ := DirSize(dir); twice-once > 1<<16 {
		t.Errorf("a second name adds %d bytes", twice-once)
	}
	if _, _, ok := DirSize(filepath.Join(dir, "none")); ok {
		t.Error("a folder that is not there has a size")
	}
}
