package evict

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cgroup"
	"coracle/agent/fact"
	"coracle/agent/pod"
)

// machine is a node whose files are a folder, whose pods end when they are told.
type machine struct {
	t       *testing.T
	root    string
	pods    []*v1.Pod
	slow    bool // pods take their time to end
	ended   []string
	dead    int
	images  int64 // bytes that can be freed
	asked   []int64
	events  []string
	evictor *Evictor
	now     time.Time
}

func newMachine(t *testing.T, text Text) *machine {
	m := &machine{t: t, root: t.TempDir(), now: time.Unix(1e9, 0)}
	groups := filepath.Join(m.root, "groups")
	m.evictor = New(Config{
		Settings: parsed(t, text), Pods: m, Images: m, Changed: func() {}, Log: slog.New(slog.DiscardHandler),
		Event: func(_, reason, message string) { m.events = append(m.events, reason+": "+message) },
		Machine: Machine{
			Host: fact.Host{Root: m.root}, Cgroups: cgroup.Folder(groups), Runtime: m, NodeDir: m.root, LogDir: filepath.Join(m.root, "log"),
		},
	})
	m.write("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n")
	return m
}

func (m *machine) write(file, content string) {
	m.t.Helper()
	path := filepath.Join(m.root, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// add runs a pod whose group uses so much memory.
func (m *machine) add(name string, used int64) {
	u := user(name, 0, 0, used)
	m.pods = append(m.pods, u.Pod)
	at := m.evictor.cfg.Machine.Cgroups.Pod(u.Pod).Path()
	for _, dir := range []string{at, filepath.Join(at, "id-"+name)} {
		m.write(filepath.Join("groups", dir, "cpu.stat"), "usage_usec 1\n")
		m.write(filepath.Join("groups", dir, "memory.current"), resourceText(used))
		m.write(filepath.Join("groups", dir, "memory.stat"), "anon "+resourceText(used)+"\n")
	}
}

func resourceText(mib int64) string { return strconv.FormatInt(mib*mi, 10) }

func (m *machine) Tenants() []*v1.Pod { return m.pods }
func (m *machine) End(uid types.UID, f pod.Failed) bool {
	m.ended = append(m.ended, string(uid)+": "+f.Message)
	if !m.slow {
		m.leave(uid)
	}
	return true
}
func (m *machine) leave(uid types.UID) {
	m.pods = slices.DeleteFunc(slices.Clone(m.pods), func(p *v1.Pod) bool { return p.UID == uid })
}
func (m *machine) DropDead() int {
	n := m.dead
	m.dead = 0
	return n
}
func (m *machine) Reclaim(_ context.Context, bytes int64) (int64, error) {
	m.asked = append(m.asked, bytes)
	n := m.images
	m.images = 0
	if n == 0 {
		return 0, errors.New("all images are in use")
	}
	return n, nil
}
func (m *machine) RootfsUsage(context.Context, string) (int64, int64, error) { return 0, 0, nil }
func (m *machine) Observe(_ context.Context, uid types.UID) (pod.Observed, error) {
	return pod.Observed{Containers: []pod.Container{
		{Name: "c", ID: "id-" + string(uid), Attempt: 1, State: pod.Running}, {Name: "c", ID: "older", State: pod.Exited},
	}}, nil
}

func (m *machine) look() time.Duration {
	m.now = m.now.Add(10 * time.Second)
	return m.evictor.look(m.t.Context(), m.now)
}

// noDisk takes the limits of disks away, which are the machine's own here.
var noDisk = map[string]string{"nodefs.available": "0", "imagefs.available": "0", "nodefs.inodesFree": "0", "imagefs.inodesFree": "0"}

func TestMemoryPressure(t *testing.T) {
	m := newMachine(t, Text{Hard: noDisk})
	m.add("small", 2)
	m.add("hog", 300)
	m.add("idle", 0)
	if wait := m.look(); wait != lookEvery || len(m.evictor.In()) > 0 || len(m.ended) > 0 {
		t.Fatalf("with half of it free: %s, %v, ended %v", wait, m.evictor.In(), m.ended)
	}
	if m.evictor.Admit(m.pods[0]) != nil {
		t.Error("a pod is refused without pressure")
	}
	m.slow = true
	m.write("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 51200 kB\n")
	if wait := m.look(); wait != soon || len(m.ended) != 1 {
		t.Fatalf("short: again in %s, ended %v", wait, m.ended)
	}
	want := "hog: The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. " +
		"Container c was using 300Mi, request is 0, has larger consumption of memory. "
	if m.ended[0] != want {
		t.Errorf("ended %q\nwant %q", m.ended[0], want)
	}
	if r := m.evictor.Admit(m.pods[0]); r == nil || r.Reason != "Evicted" || r.Message != "The node had condition: [MemoryPressure]. " {
		t.Errorf("new pod: %+v", r)
	}
	if m.look(); len(m.ended) != 1 {
		t.Errorf("another pod was ended while the first one still ends: %v", m.ended)
	}
	m.leave("hog")
	if m.look(); len(m.ended) != 2 || !strings.HasPrefix(m.ended[1], "small") {
		t.Errorf("still short: %v", m.ended)
	}
	m.leave("small")
	for range 3 {
		m.look()
	}
	if len(m.ended) != 2 {
		t.Errorf("a pod was ended that frees nothing: %v", m.ended)
	}
	if got := strings.Join(m.events, "\n"); got != "EvictionThresholdMet: Attempting to reclaim memory\nEvictionFreesNothing: Low on memory, and no pod that may be evicted uses any: look for what else on the machine does" {
		t.Errorf("events:\n%s", got)
	}
	m.write("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n")
	m.now = m.now.Add(time.Hour)
	if m.look(); len(m.evictor.In()) > 0 {
		t.Errorf("conditions: %v", m.evictor.In())
	}
}

// TestHangingVictim: a pod that does not end holds the next one up for a while only.
func TestHangingVictim(t *testing.T) {
	m := newMachine(t, Text{Hard: noDisk})
	m.slow = true
	m.add("a", 300)
	m.write("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 51200 kB\n")
	m.look()
	for range 2 {
		m.look()
	}
	if len(m.ended) != 1 {
		t.Fatalf("ended %v", m.ended)
	}
	for range 3 {
		m.look()
	}
	if len(m.ended) < 2 {
		t.Errorf("nobody was told again after %s: %v", 6*10*time.Second, m.ended)
	}
}

// TestDiskPressure: first what nobody uses goes, then the pod that has written, and none that has not.
func TestDiskPressure(t *testing.T) {
	// More than any disk has: the limit is met whatever the machine's disk holds.
	m := newMachine(t, Text{Hard: map[string]string{
		"nodefs.available": "1Ei", "imagefs.available": "0", "nodefs.inodesFree": "0", "imagefs.inodesFree": "0", "memory.available": "0",
	}})
	m.add("writer", 0)
	m.add("reader", 0)
	m.dead, m.images = 2, 5*mi
	writer := m.pods[0]
	writer.Spec.Volumes = []v1.Volume{{Name: "d", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	m.write("pods/writer/volumes/kubernetes.io~empty-dir/d/file", strings.Repeat("x", 2*mi))
	if m.look(); m.dead != 0 || len(m.asked) != 0 || len(m.ended) != 0 {
		t.Fatalf("first dead containers: %+v", m)
	}
	if m.look(); len(m.asked) != 1 || m.asked[0] <= 0 || len(m.ended) != 0 {
		t.Fatalf("then images: %+v", m)
	}
	if m.look(); len(m.asked) != 2 || len(m.ended) != 1 || !strings.HasPrefix(m.ended[0], "writer: The node was low on resource: ephemeral-storage. Threshold quantity: 1Ei") {
		t.Fatalf("then the pod that wrote: asked %v, ended %v", m.asked, m.ended)
	}
	for range 3 {
		m.look()
	}
	if len(m.ended) != 1 || len(m.asked) != 2 {
		t.Errorf("ended %v, images asked for %v", m.ended, m.asked)
	}
	if r := m.evictor.Admit(writer); r == nil || r.Message != "The node had condition: [DiskPressure]. " {
		t.Errorf("new pod: %+v", r)
	}
	static := user("static", 0, 0, 0).Pod
	static.Annotations = map[string]string{pod.SourceAnnotation: "file"}
	if r := m.evictor.Admit(static); r != nil {
		t.Errorf("a static pod is refused: %+v", r)
	}
}

func TestRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newMachine(t, Text{}).evictor.Run(ctx); err != nil {
		t.Error(err)
	}
}
