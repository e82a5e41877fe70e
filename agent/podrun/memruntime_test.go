package podrun

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/runtime"
)

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

	refuseUpdate error
	refuseRemove error
	written      map[string]int64 // into root file systems, by container name
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
		ID: id, Name: spec.Name, Kind: spec.Kind, Attempt: spec.Attempt, Fingerprint: spec.Fingerprint, Image: spec.Image, CreatedAt: time.Now(), Resources: notedResources(spec),
	})
	return id, nil
}

// notedResources is nil for a container that asks for nothing, as with containerd.
func notedResources(spec pod.ContainerSpec) *v1.ResourceRequirements {
	if r := pod.Compute(spec.Resources); len(r.Requests)+len(r.Limits) > 0 {
		return &r
	}
	return nil
}

func (r *memRuntime) RootfsUsage(_ context.Context, id string) (bytes, inodes int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, c := r.locate(id)
	if c == nil {
		return 0, 0, fmt.Errorf("container %s is not there", id)
	}
	return r.written[c.Name], 1, nil
}

func (r *memRuntime) Update(_ context.Context, id string, spec pod.ContainerSpec) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, c := r.locate(id)
	if c == nil || c.State != pod.Running {
		return fmt.Errorf("container %s does not run", id)
	}
	if r.refuseUpdate != nil {
		return r.refuseUpdate
	}
	c.Resources = notedResources(spec)
	return nil
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
		if r.refuseRemove != nil {
			return r.refuseRemove
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

func (r *memRuntime) Features(context.Context) runtime.Features {
	return runtime.Features{RecursiveReadOnly: true}
}

func (r *memRuntime) Changes() <-chan types.UID { return r.changes }
