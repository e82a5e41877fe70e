package node

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"coracle/agent/device"
	"coracle/agent/fact"
	"coracle/agent/image"
	containers "coracle/agent/runtime"
	"coracle/agent/status"
	"coracle/internal/version"
)

const (
	// reportEvery is how often the node looks at itself. What it reads is a few files of /proc.
	reportEvery = 10 * time.Second
	// imagesEvery is how often containerd is asked for its images, which costs it a walk.
	imagesEvery = time.Minute
	// askTimeout bounds a question to containerd: an answer takes milliseconds, and a hung
	// containerd must show in the node's conditions.
	askTimeout = 5 * time.Second
	// awayGrace is how long containerd may be away before the node says so: a restart of it
	// takes a second or two and must not flip a Ready condition.
	awayGrace = 20 * time.Second
)

// report makes the Node from the facts of the moment and hands it to the outbox.
type report struct {
	n        *Node
	settings fact.Settings
	wake     chan struct{} // one slot

	mu        sync.Mutex
	prev      *v1.Node
	images    []v1.ContainerImage
	imagesAt  time.Time
	runtime   string // "containerd://1.6.20", the last that was heard
	seen      time.Time
	problems  []string
	allocated v1.ResourceList
}

func newReport(n *Node) (*report, error) {
	taints, err := n.cfg.ParsedTaints()
	if err != nil {
		return nil, err
	}
	reserved, err := n.cfg.ReservedResources()
	if err != nil {
		return nil, err
	}
	eviction, err := n.cfg.Eviction()
	if err != nil {
		return nil, err
	}
	facts, err := n.host.Read(n.cfg.RootDir, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	capacity := fact.Capacity(facts, n.cfg.MaxPods)
	for name, kept := range eviction.Kept(capacity) {
		kept.Add(reserved[name])
		reserved[name] = kept
	}
	r := &report{n: n, wake: make(chan struct{}, 1), seen: n.began, settings: fact.Settings{
		Name: n.name, Labels: n.cfg.Labels, Taints: taints, Reserved: reserved, MaxPods: n.cfg.MaxPods,
		Version: version.Kubernetes + "+coracle",
	}}
	r.allocated = fact.Allocatable(capacity, reserved)
	return r, nil
}

// Run reports until ctx ends.
func (r *report) Run(ctx context.Context) error {
	loop := &status.NodeReporter{Outbox: r.n.outbox, Compute: r.compute, Interval: reportEvery, Wake: r.n.network.Changed(), Log: r.n.log}
	return loop.Run(ctx)
}

// Allocatable is what pods may use of the node.
func (r *report) Allocatable() v1.ResourceList {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allocated
}

// Problems are what keeps the node from being Ready.
func (r *report) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.problems)
}

// Runtime is containerd's version as it was last heard, and Images what it held.
func (r *report) Runtime() (string, []v1.ContainerImage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runtime, slices.Clone(r.images)
}

func (r *report) compute(ctx context.Context) (*v1.Node, error) {
	facts, err := r.n.host.Read(r.n.cfg.RootDir, runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var problems []string
	if p := r.askContainerd(ctx, now); p != "" {
		problems = append(problems, p)
	}
	if err := r.n.cni.Ready(); err != nil {
		problems = append(problems, "pods cannot be attached to a network: "+err.Error())
	}
	if r.n.shutdown.Begun() {
		problems = append(problems, "node is shutting down")
	}
	can := r.n.runtime.Features(ctx)
	devices := r.n.devices.Counts(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	live := fact.Live{
		// As with a kubelet that was given a name: the label and the address say the node's name, so
		// that several nodes on one machine are told apart.
		Hostname: r.n.name, Addresses: r.n.network.Addresses(), RuntimeVersion: r.runtime, Images: r.images,
		Handlers: handlers(can, r.n.runtime.Handlers()), Problems: problems, Pressure: append(fact.Pressures(r.n.evictor.In()), r.n.limitsCondition()),
	}
	node := fact.Node(now, facts, r.settings, live, r.prev)
	// Devices are not in it: admission asks for them where they are known best.
	r.prev, r.problems, r.allocated = node, problems, maps.Clone(node.Status.Allocatable)
	showDevices(&node.Status, devices)
	return node, nil
}

// showDevices adds what device plugins offer.
func showDevices(s *v1.NodeStatus, counts map[v1.ResourceName]device.Count) {
	for name, c := range counts {
		s.Capacity[name] = *resource.NewQuantity(c.Capacity, resource.DecimalSI)
		s.Allocatable[name] = *resource.NewQuantity(c.Allocatable, resource.DecimalSI)
	}
}

// askContainerd keeps what containerd said last, and tells the problem once it has been away for a while.
func (r *report) askContainerd(ctx context.Context, now time.Time) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := r.n.images.Client().Version(ctx)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if now.Sub(r.seen) < awayGrace && r.runtime != "" {
			return ""
		}
		return fmt.Sprintf("containerd does not answer at %s: %s", r.n.cfg.Containerd.Socket, err)
	}
	r.mu.Lock()
	r.seen, r.runtime = now, "containerd://"+trimDebian(v.Version)
	due := now.Sub(r.imagesAt) >= imagesEvery
	r.mu.Unlock()
	if !due {
		return ""
	}
	stored, err := r.n.images.List(ctx)
	if err != nil {
		r.n.log.Debug("images not listed", "err", err)
		return ""
	}
	r.mu.Lock()
	r.images, r.imagesAt = listed(stored), now
	r.mu.Unlock()
	return ""
}

func listed(stored []image.Stored) []v1.ContainerImage {
	out := make([]v1.ContainerImage, 0, len(stored))
	for _, s := range stored {
		out = append(out, v1.ContainerImage{Names: s.Names, SizeBytes: s.Size})
	}
	return out
}

// trimDebian takes the distribution's suffix off: "1.6.20~ds1" is 1.6.20 to whoever compares versions.
func trimDebian(v string) string {
	for i, c := range v {
		if c == '~' || c == '+' {
			return v[:i]
		}
	}
	return v
}

// handlers are what pods may name as the handler of their RuntimeClass, the default first. What others than that can do is
// not known.
func handlers(can containers.Features, names []string) []v1.NodeRuntimeHandler {
	out := []v1.NodeRuntimeHandler{{
		Name: "", Features: &v1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &can.RecursiveReadOnly, UserNamespaces: &can.UserNamespaces},
	}}
	for _, name := range names {
		out = append(out, v1.NodeRuntimeHandler{Name: name})
	}
	return out
}
