package podrun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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
	"coracle/agent/image"
	"coracle/agent/pod"
	"coracle/agent/runtime"
	"coracle/agent/store"
	"coracle/agent/volume"
	"coracle/internal/fault"
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

type memStore struct {
	mu         sync.Mutex
	pods       map[types.UID]*v1.Pod
	unreadable []types.UID // held, but cannot be decoded
	configMaps map[string]*v1.ConfigMap
	complete   bool
	facts      map[string][]byte
	puts       int
	putFails   error
	watchers   map[<-chan store.Change]chan store.Change
}

func (s *memStore) Pods() []*v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.pods))
}

func (s *memStore) Pod(uid types.UID) (*v1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pods[uid]
	return p.DeepCopy(), ok
}

func (s *memStore) Objects(string) []store.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []store.Object
	for uid := range s.pods {
		out = append(out, store.Object{Kind: store.KindPod, UID: string(uid)})
	}
	for _, uid := range s.unreadable {
		out = append(out, store.Object{Kind: store.KindPod, UID: string(uid)})
	}
	return out
}

func (s *memStore) ConfigMap(_, name string) (*v1.ConfigMap, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cm, ok := s.configMaps[name]
	return cm, ok
}
func (s *memStore) Secret(_, _ string) (*v1.Secret, bool) { return nil, false }
func (s *memStore) Services() []*v1.Service               { return nil }
func (s *memStore) Complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

func (s *memStore) Watch() <-chan store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan store.Change, 1024)
	s.watchers[c] = c
	return c
}

func (s *memStore) Unwatch(c <-chan store.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, c)
}

func (s *memStore) change(c store.Change, apply func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	apply()
	for _, w := range s.watchers {
		w <- c
	}
}

func (s *memStore) assign(p *v1.Pod) {
	s.change(store.Change{Kind: store.KindPod, Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}, func() { s.pods[p.UID] = p })
}

func (s *memStore) remove(uid types.UID) {
	s.change(store.Change{Kind: store.KindPod, UID: string(uid), Removed: true}, func() { delete(s.pods, uid) })
}

func (s *memStore) setComplete() {
	s.change(store.Change{Completed: true}, func() { s.complete = true })
}

// userDeletes marks the pod as the API server does.
func (s *memStore) userDeletes(uid types.UID, grace int64) {
	p := s.pods[uid].DeepCopy()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second)}, &grace
	p.ResourceVersion += "d"
	s.assign(p)
}

func (s *memStore) PutFact(_, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putFails != nil {
		return s.putFails
	}
	s.puts++
	s.facts[key] = slices.Clone(value)
	return nil
}

func (s *memStore) Fact(_, key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.facts[key]
	return v, ok
}

func (s *memStore) Facts(string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.facts)
}

func (s *memStore) DeleteFact(_ string, keys ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.facts, k)
	}
	return nil
}

// behaviour is what a container's process does, by container name.
type behaviour struct {
	exitAfter  time.Duration
	exitCode   int
	termAfter  time.Duration
	ignoreTerm bool
	startTakes time.Duration
	startFails error
	exec       func(ctx context.Context, command []string) (int, error)
}

type memRuntime struct {
	mu        sync.Mutex
	pods      map[types.UID]*pod.Observed
	starts    map[string]int
	specs     []pod.ContainerSpec
	signals   []string
	observes  int
	busy, top int // steps under way, and the most there ever were
	changes   chan types.UID
	behave    map[string]behaviour
}

func (r *memRuntime) ObserveAll(context.Context) (map[types.UID]pod.Observed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[types.UID]pod.Observed{}
	for uid, o := range r.pods {
		out[uid] = *o
	}
	return out, nil
}

func (r *memRuntime) Observe(_ context.Context, uid types.UID) (pod.Observed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observes++
	o, ok := r.pods[uid]
	if !ok {
		return pod.Observed{UID: uid}, nil
	}
	out := *o
	out.Containers = slices.Clone(o.Containers)
	if o.Sandbox != nil {
		s := *o.Sandbox
		out.Sandbox = &s
	}
	return out, nil
}

func (r *memRuntime) of(uid types.UID) *pod.Observed {
	o := r.pods[uid]
	if o == nil {
		o = &pod.Observed{UID: uid}
		r.pods[uid] = o
	}
	return o
}

func (r *memRuntime) EnsureSandbox(_ context.Context, spec runtime.SandboxSpec) (*pod.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(spec.UID)
	o.Namespace, o.Name = spec.Namespace, spec.Name
	if o.Sandbox == nil {
		o.Sandbox = &pod.Sandbox{CreatedAt: time.Now(), NetnsPath: "/run/ns/" + string(spec.UID)}
	}
	s := *o.Sandbox
	return &s, nil
}

func (r *memRuntime) RemoveSandbox(_ context.Context, uid types.UID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(uid).Sandbox = nil
	return nil
}

func (r *memRuntime) enter(d time.Duration) (leave func()) {
	r.mu.Lock()
	r.busy++
	r.top = max(r.top, r.busy)
	r.mu.Unlock()
	<-time.After(d)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy--
	}
}

func (r *memRuntime) Create(_ context.Context, spec pod.ContainerSpec) (string, error) {
	defer r.enter(10 * time.Millisecond)()
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of(spec.PodUID)
	id := fmt.Sprintf("%s-%s-%d", spec.PodUID, spec.Name, spec.Attempt)
	for _, c := range o.Containers {
		if c.ID == id {
			return id, nil
		}
	}
	r.specs = append(r.specs, spec)
	o.Containers = append(o.Containers, pod.Container{
		ID: id, Name: spec.Name, Kind: spec.Kind, Attempt: spec.Attempt, Fingerprint: spec.Fingerprint, Image: spec.Image, CreatedAt: time.Now(),
	})
	return id, nil
}

// locate needs the lock.
func (r *memRuntime) locate(id string) (types.UID, *pod.Container) {
	for uid, o := range r.pods {
		for i := range o.Containers {
			if o.Containers[i].ID == id {
				return uid, &o.Containers[i]
			}
		}
	}
	return "", nil
}

func (r *memRuntime) Start(_ context.Context, id string) error {
	r.mu.Lock()
	_, c := r.locate(id)
	if c == nil {
		r.mu.Unlock()
		return fmt.Errorf("container %s is not there", id)
	}
	b := r.behave[c.Name]
	r.mu.Unlock()
	defer r.enter(max(b.startTakes, 10*time.Millisecond))()
	r.mu.Lock()
	defer r.mu.Unlock()
	uid, c := r.locate(id)
	r.starts[id]++
	if b.startFails != nil {
		c.State, c.ExitCode, c.Reason, c.Message, c.FinishedAt = pod.Exited, 128, "StartError", b.startFails.Error(), time.Now()
		return b.startFails
	}
	c.State, c.StartedAt = pod.Running, time.Now()
	r.changes <- uid
	if b.exitAfter > 0 {
		time.AfterFunc(b.exitAfter, func() { r.exit(id, b.exitCode) })
	}
	return nil
}

func (r *memRuntime) exit(id string, code int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	uid, c := r.locate(id)
	if c == nil || c.State != pod.Running {
		return
	}
	c.State, c.ExitCode, c.FinishedAt = pod.Exited, code, time.Now()
	r.changes <- uid
}

func (r *memRuntime) Signal(_ context.Context, id, sig string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signals = append(r.signals, id+" "+sig)
	_, c := r.locate(id)
	if c == nil {
		return nil
	}
	b := r.behave[c.Name]
	switch {
	case sig == "SIGKILL":
		time.AfterFunc(time.Millisecond, func() { r.exit(id, 137) })
	case !b.ignoreTerm:
		time.AfterFunc(max(b.termAfter, time.Millisecond), func() { r.exit(id, 143) })
	}
	return nil
}

func (r *memRuntime) Remove(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if uid, c := r.locate(id); c != nil {
		if c.State == pod.Running {
			return fmt.Errorf("container %s runs", id)
		}
		o := r.pods[uid]
		o.Containers = slices.DeleteFunc(o.Containers, func(c pod.Container) bool { return c.ID == id })
	}
	return nil
}

func (r *memRuntime) Exec(ctx context.Context, id string, spec runtime.ExecSpec) (int, error) {
	r.mu.Lock()
	_, c := r.locate(id)
	var f func(context.Context, []string) (int, error)
	if c != nil {
		f = r.behave[c.Name].exec
	}
	r.mu.Unlock()
	if f == nil {
		return 0, nil
	}
	return f(ctx, spec.Command)
}

func (r *memRuntime) Changes() <-chan types.UID { return r.changes }

type memImages struct {
	mu    sync.Mutex
	takes map[string]time.Duration
	fails map[string]error
	pulls []string
}

func (m *memImages) Ensure(ctx context.Context, req image.Request) (image.Image, error) {
	m.mu.Lock()
	m.pulls = append(m.pulls, req.Ref)
	d, err := m.takes[req.Ref], m.fails[req.Ref]
	m.mu.Unlock()
	if req.Policy == v1.PullNever && errors.Is(err, fault.ErrUnavailable) {
		return image.Image{Ref: req.Ref}, nil // the registry is away, and is not asked
	}
	if d > 0 {
		req.OnPull()
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return image.Image{}, ctx.Err()
		}
	}
	if err != nil {
		return image.Image{}, &image.Error{Ref: req.Ref, Reason: image.ReasonPull, Err: err}
	}
	return image.Image{Ref: req.Ref, Size: 42}, nil
}

func (m *memImages) Get(_ context.Context, ref string) (image.Image, error) {
	return image.Image{Ref: ref}, nil
}

type memNetwork struct {
	mu       sync.Mutex
	attached map[types.UID]cni.Result
	takes    time.Duration
	fails    int // that many times
	tries    []time.Time
}

func (n *memNetwork) Attach(_ context.Context, a cni.Attachment) (cni.Result, error) {
	<-time.After(n.takes)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tries = append(n.tries, time.Now())
	if n.fails > 0 {
		n.fails--
		return cni.Result{}, errors.New("plugin bridge: no addresses left")
	}
	if a.NetnsPath == "" {
		return cni.Result{}, errors.New("no namespace to attach to")
	}
	r := cni.Result{IPs: []string{"10.0.0.7"}}
	n.attached[a.UID] = r
	return r, nil
}

func (n *memNetwork) Detach(_ context.Context, uid types.UID, _, _, _ string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attached, uid)
	return nil
}

func (n *memNetwork) Result(uid types.UID) (cni.Result, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.attached[uid]
	return r, ok
}

func (n *memNetwork) Attached(context.Context) ([]types.UID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.attached)), nil
}

type memVolumes struct {
	mu        sync.Mutex
	pods      map[types.UID]bool
	takes     time.Duration
	ensured   int
	refreshAt time.Duration // after each Ensure; 0: never
}

func (v *memVolumes) Ensure(_ context.Context, r volume.Request) (volume.Result, error) {
	<-time.After(v.takes)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pods[r.Pod.UID] = true
	v.ensured++
	out := volume.Result{Paths: map[string]string{}}
	if v.refreshAt > 0 {
		out.RefreshAt = time.Now().Add(v.refreshAt)
	}
	for _, vol := range r.Pod.Spec.Volumes {
		out.Paths[vol.Name] = "/volumes/" + vol.Name
	}
	return out, nil
}

func (v *memVolumes) EnsureFiles(context.Context, volume.FilesRequest) (volume.Files, error) {
	return volume.Files{Hosts: "/files/hosts"}, nil
}

func (v *memVolumes) EnsureTerminationLog(_ types.UID, container string, attempt int) (string, error) {
	return fmt.Sprintf("/files/%s/%d", container, attempt), nil
}
func (v *memVolumes) EnsureSubPath(s volume.SubPath) (string, error)   { return "/sub/" + s.Path, nil }
func (v *memVolumes) RemoveAttempt(types.UID, string, int) error       { return nil }
func (v *memVolumes) Pods(context.Context) (map[types.UID]bool, error) { return v.list(), nil }
func (v *memVolumes) Remove(_ context.Context, uid types.UID) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.pods, uid)
	return nil
}

func (v *memVolumes) list() map[types.UID]bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.pods)
}

type memCgroups struct {
	mu       sync.Mutex
	pods     map[types.UID]bool
	stubborn bool // removal says it worked, and did not
	removals int
}

func (c *memCgroups) EnsurePod(_ context.Context, p *v1.Pod) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods[p.UID] = true
	return "/coracle/pod" + string(p.UID), nil
}

func (c *memCgroups) RemovePod(_ context.Context, uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removals++
	if !c.stubborn {
		delete(c.pods, uid)
	}
	return nil
}

func (c *memCgroups) Pods(context.Context) (map[types.UID]bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.pods), nil
}

type memOutbox struct {
	mu       sync.Mutex
	last     map[types.UID]v1.PodStatus
	released map[types.UID]bool
	changes  int
}

func (o *memOutbox) SetPod(uid types.UID, _, _ string, s v1.PodStatus, released bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.last[uid]
	a, _ := before.Marshal()
	b, _ := s.Marshal()
	if string(a) != string(b) || o.released[uid] != released {
		o.changes++
	}
	o.last[uid], o.released[uid] = s, released
}

func (o *memOutbox) Last(uid types.UID) (v1.PodStatus, bool, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.last[uid]
	return *s.DeepCopy(), o.released[uid], ok
}

func (o *memOutbox) Forget(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.last, uid)
	delete(o.released, uid)
}

type memEvents struct {
	mu   sync.Mutex
	list []string
}

func (e *memEvents) Event(ref v1.ObjectReference, eventType, reason, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, strings.TrimSpace(fmt.Sprintf("%s %s %s: %s", eventType, reason, ref.FieldPath, message)))
}

func (e *memEvents) all() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.list, "\n")
}
