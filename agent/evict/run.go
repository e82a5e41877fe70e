package evict

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

const (
	// lookEvery is how often levels are read, as often as a kubelet reads them.
	lookEvery = 10 * time.Second
	// soon is how often they are read while one is near its threshold: memory can run out within seconds.
	soon = time.Second
	// endWait is how long a pod that was told to go may take, beyond its grace, before another one is told.
	endWait = 30 * time.Second
	// reclaimAgain is when images are looked through again after there was nothing to free.
	reclaimAgain = time.Minute
)

// Pods are the pods of the node; agent/podrun.Runner.
type Pods interface {
	// Tenants are the pods that the node has taken and that have not ended, with the resources they were granted.
	Tenants() []*v1.Pod
	End(uid types.UID, f pod.Failed) bool
	// DropDead has the containers of pods that have ended removed, and says of how many pods.
	DropDead() int
}

// Reclaimer frees disk space that nobody uses; agent/image's images.
type Reclaimer interface {
	// Reclaim removes unused images until so many bytes are free, and says how many it has freed.
	Reclaim(ctx context.Context, bytes int64) (freed int64, err error)
}

// Config is what New needs. All is required unless it says otherwise.
type Config struct {
	Settings Settings
	Machine  Machine
	Pods     Pods
	// Images frees what nobody uses. Nil: nothing of the kind is done.
	Images Reclaimer
	// Changed is told when the node's conditions have changed.
	Changed func()
	// Event tells about the node.
	Event func(eventType, reason, message string)
	Log   *slog.Logger
}

// Evictor watches the node. Its questions are safe for concurrent use.
type Evictor struct {
	cfg Config

	mu sync.Mutex
	in []v1.NodeConditionType

	// Below: Run's goroutine only.
	state     State
	told      map[Threshold]bool // begun: acted upon in the last look too
	helpless  map[Threshold]bool // nothing could be done, and it was said
	reclaimed time.Time          // when images were last looked through in vain
	victim    types.UID
	until     time.Time // how long the victim is waited for
}

// New makes an evictor; Run starts it.
func New(cfg Config) *Evictor {
	return &Evictor{cfg: cfg, told: map[Threshold]bool{}, helpless: map[Threshold]bool{}}
}

// Run looks until ctx ends.
func (e *Evictor) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			timer.Reset(e.look(ctx, time.Now()))
		}
	}
}

// In are the pressures that the node is under.
func (e *Evictor) In() []v1.NodeConditionType {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.in
}

// Admit is why a new pod is not taken now; nil: it is.
func (e *Evictor) Admit(p *v1.Pod) *pod.Rejection {
	in := e.In()
	if len(in) == 0 {
		return nil
	}
	tolerant := pod.Tolerates(p, v1.Taint{Key: v1.TaintNodeMemoryPressure, Effect: v1.TaintEffectNoSchedule})
	if message, refused := Refuse(in, pod.Critical(p), pod.QOSClass(p) == v1.PodQOSBestEffort, tolerant); refused {
		return &pod.Rejection{Reason: reasonEvicted, Message: message}
	}
	return nil
}

// look reads, decides and does one thing. It returns when to look again.
func (e *Evictor) look(ctx context.Context, now time.Time) time.Duration {
	levels := e.cfg.Machine.levels(ctx)
	d, next := Plan(e.cfg.Settings, e.state, levels, now)
	e.state = next
	e.publish(d.Conditions)
	for t := range e.told {
		if !slices.Contains(d.Act, t) {
			delete(e.told, t)
			delete(e.helpless, t)
		}
	}
	wait := lookEvery
	if d.Near {
		wait = soon
	}
	if e.ending(now) {
		return soon
	}
	helped := false
	for _, t := range d.Act {
		e.announce(t)
		if helped = e.relieve(ctx, t, levels, now); helped {
			break
		}
	}
	if len(d.Act) > 0 && !helped {
		wait = lookEvery // measuring every pod each second would itself be a load
	}
	return wait
}

func (e *Evictor) publish(in []v1.NodeConditionType) {
	e.mu.Lock()
	same := slices.Equal(e.in, in)
	e.in = in
	e.mu.Unlock()
	if !same {
		e.cfg.Log.Info("pressure on the node has changed", "conditions", list(in))
		e.cfg.Changed()
	}
}

// ending says that a pod that was told to go is still there.
func (e *Evictor) ending(now time.Time) bool {
	if e.victim == "" {
		return false
	}
	there := slices.ContainsFunc(e.cfg.Pods.Tenants(), func(p *v1.Pod) bool { return p.UID == e.victim })
	if there && now.Before(e.until) {
		return true
	}
	e.victim = ""
	return false
}

func (e *Evictor) announce(t Threshold) {
	if !e.told[t] {
		e.told[t] = true
		e.cfg.Event(v1.EventTypeWarning, "EvictionThresholdMet", "Attempting to reclaim "+string(t.Signal.Resource()))
	}
}

// relieve does one thing about a threshold. False: there is nothing that would help.
func (e *Evictor) relieve(ctx context.Context, t Threshold, levels Levels, now time.Time) bool {
	if t.Signal.Disk() && e.reclaim(ctx, t, levels, now) {
		return true
	}
	r := t.Signal.Resource()
	ranked := Rank(r, e.cfg.Machine.uses(ctx, t.Signal, e.cfg.Pods.Tenants()))
	if ctx.Err() != nil {
		return true
	}
	for _, u := range ranked {
		if f := End(t, levels, u, e.cfg.Settings); e.cfg.Pods.End(u.Pod.UID, f) {
			e.victim, e.until = u.Pod.UID, now.Add(endWait+time.Duration(*f.GraceSeconds)*time.Second)
			e.cfg.Log.Warn("pod evicted", "pod", u.Pod.Namespace+"/"+u.Pod.Name, "uid", u.Pod.UID, "signal", t.Signal, "uses", quantity(r, u.Total))
			return true
		}
	}
	if !e.helpless[t] {
		e.helpless[t] = true
		e.cfg.Log.Warn("the node is under pressure, and no pod that may be ended uses what is short", "signal", t.Signal, "missing", quantity(r, t.missing(levels, false)))
		e.cfg.Event(v1.EventTypeWarning, "EvictionFreesNothing", "Low on "+string(r)+", and no pod that may be evicted uses any: look for what else on the machine does")
	}
	return false
}

// reclaim removes dead containers and unused images, where these are on the disk that is short. True: wait and see what it came to.
func (e *Evictor) reclaim(ctx context.Context, t Threshold, levels Levels, now time.Time) bool {
	onImages := t.Signal == ImagefsAvailable || t.Signal == ImagefsInodesFree
	if !onImages && !e.cfg.Machine.oneDisk(ctx) {
		return false
	}
	if e.cfg.Pods.DropDead() > 0 {
		return true
	}
	if e.cfg.Images == nil || now.Sub(e.reclaimed) < reclaimAgain {
		return false
	}
	bytes := t.missing(levels, true)
	if t.Signal.Resource() == resourceInodes {
		bytes = math.MaxInt64 // how many files an image has is not known: all that is unused
	}
	freed, err := e.cfg.Images.Reclaim(ctx, bytes)
	if freed > 0 {
		return true
	}
	e.reclaimed = now
	if err != nil && ctx.Err() == nil {
		e.cfg.Log.Warn("no images removed though disk space is short", "err", err)
	}
	return false
}
