package podrun

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cni"
	"coracle/agent/image"
	"coracle/agent/volume"
	"coracle/internal/fault"
)

type memImages struct {
	mu    sync.Mutex
	takes map[string]time.Duration
	fails map[string]error
	pulls []string
	// progress is what Pulls answers.
	progress []image.Progress
	views    map[string]string // of volumes, "UID/NAME" to image
}

func (m *memImages) Pulls() []image.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.progress
}

func (m *memImages) VolumeImage(_ context.Context, uid types.UID, volume string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id := m.views[string(uid)+"/"+volume]; id != "" {
		return id, nil
	}
	return "", fault.ErrNotFound
}

func (m *memImages) MountVolume(_ context.Context, uid types.UID, volume string, img image.Image, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.views == nil {
		m.views = map[string]string{}
	}
	if key := string(uid) + "/" + volume; m.views[key] == "" {
		m.views[key] = img.RepoDigest
	}
	return nil
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
		return image.Image{}, &image.Error{Ref: req.Ref, Reason: image.ReasonOf(err), Err: err}
	}
	return image.Image{Ref: req.Ref, RepoDigest: req.Ref + "@sha256:1", Size: 42}, nil
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

func (v *memVolumes) Ensure(ctx context.Context, r volume.Request) (volume.Result, error) {
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
		if vol.Image != nil && r.Image(ctx, &vol, "/volumes/"+vol.Name) != nil {
			continue
		}
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
func (v *memVolumes) ReadFile(string, string) ([]byte, error)          { return nil, fs.ErrNotExist }
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

func (c *memCgroups) LoosenPod(ctx context.Context, p *v1.Pod) error {
	_, err := c.EnsurePod(ctx, p)
	return err
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

func (o *memOutbox) SetLocalPod(uid types.UID, _, _ string, s v1.PodStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last[uid] = s
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
