package podrun

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"coracle/agent/cni"
	"coracle/agent/pod"
	"coracle/agent/store"
)

// node is a node in memory: every door with real behaviour, and what it did in told.
type node struct {
	store   *memStore
	runtime *memRuntime
	images  *memImages
	network *memNetwork
	volumes *memVolumes
	cgroups *memCgroups
	outbox  *memOutbox
	events  *memEvents
	logDir  string
}

func newNode(t *testing.T) *node {
	return &node{
		store:   &memStore{pods: map[types.UID]*v1.Pod{}, configMaps: map[string]*v1.ConfigMap{}, facts: map[string][]byte{}, watchers: map[<-chan store.Change]chan store.Change{}},
		runtime: &memRuntime{pods: map[types.UID]*pod.Observed{}, starts: map[string]int{}, changes: make(chan types.UID, 1024), behave: map[string]behaviour{}},
		images:  &memImages{},
		network: &memNetwork{attached: map[types.UID]cni.Result{}},
		volumes: &memVolumes{pods: map[types.UID]bool{}},
		cgroups: &memCgroups{pods: map[types.UID]bool{}},
		outbox:  &memOutbox{last: map[types.UID]v1.PodStatus{}, released: map[types.UID]bool{}},
		events:  &memEvents{},
		logDir:  t.TempDir(),
	}
}

// run starts an agent on the node. stop ends it and waits.
func (n *node) run(t *testing.T, change ...func(*Config)) (r *Runner, stop func()) {
	t.Helper()
	cfg := Config{
		Store: n.store, Runtime: n.runtime, Images: n.images, Network: n.network, Volumes: n.volumes, Cgroups: n.cgroups,
		Outbox: n.outbox, Events: n.events, Log: slog.New(slog.DiscardHandler), NodeName: "node-1", LogDir: n.logDir,
		HostIPs: func() []string { return []string{"192.0.2.1"} },
	}
	for _, f := range change {
		f(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	synctest.Wait()
	return r, func() {
		n.pass(0)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// pass lets time go by inside the synctest bubble. What the test did with the doors before
// is ordered before what the agent does with them now.
func (n *node) pass(d time.Duration) {
	for _, mu := range []*sync.Mutex{&n.store.mu, &n.runtime.mu, &n.images.mu, &n.network.mu, &n.volumes.mu, &n.cgroups.mu, &n.outbox.mu, &n.events.mu} {
		mu.Lock()
		mu.Unlock() //nolint:staticcheck // the hand-over is the point
	}
	<-time.After(d)
	synctest.Wait()
}

func newPod(uid string, containers ...string) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "pod-" + uid, Namespace: "default", UID: types.UID(uid), ResourceVersion: "1"},
		Spec:       v1.PodSpec{RestartPolicy: v1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr.To[int64](30)},
	}
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: c, Image: c + ":1"})
	}
	return p
}

func (n *node) ready(uid types.UID) bool {
	s, _, _ := n.outbox.Last(uid)
	for _, c := range s.Conditions {
		if c.Type == v1.PodReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func (n *node) waiting(uid types.UID) (reason, message string) {
	s, _, _ := n.outbox.Last(uid)
	for _, c := range s.ContainerStatuses {
		if c.State.Waiting != nil {
			return c.State.Waiting.Reason, c.State.Waiting.Message
		}
	}
	return "", ""
}

// left says what of a pod is on the node.
func (n *node) left(uid types.UID) string {
	var out []string
	if o, ok := n.runtime.pods[uid]; ok && (o.Sandbox != nil || len(o.Containers) > 0) {
		out = append(out, fmt.Sprintf("sandbox %v, containers %v", o.Sandbox, o.Containers))
	}
	if _, ok := n.network.attached[uid]; ok {
		out = append(out, "network")
	}
	if n.volumes.pods[uid] {
		out = append(out, "volumes")
	}
	if n.cgroups.pods[uid] {
		out = append(out, "cgroup")
	}
	if _, ok := n.store.facts[string(uid)]; ok {
		out = append(out, "facts")
	}
	return strings.Join(out, "; ")
}
