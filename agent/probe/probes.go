package probe

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// Config is what Probes needs. All is required.
type Config struct {
	Exec Executor
	// OnChange is called, outside of any lock, when a verdict about a pod has changed.
	OnChange func(uid types.UID)
	// OnFailure is called for each probing that did not pass. errored says that it could not be carried out.
	OnFailure func(uid types.UID, t pod.ProbeTarget, message string, errored bool)
}

// Probes runs probes. It is safe for concurrent use.
type Probes struct {
	cfg Config
	wg  sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*podProbes
}

type podProbes struct {
	ip      string
	running map[key]*running
}

type key struct {
	id   string // of the container
	kind pod.ProbeKind
}

type running struct {
	target pod.ProbeTarget
	cancel context.CancelFunc
	count  Count
}

// New makes Probes. None run before SetTargets.
func New(cfg Config) *Probes { return &Probes{cfg: cfg, pods: map[types.UID]*podProbes{}} }

// Wait returns when every probe has ended, which they do when the contexts of SetTargets have.
func (p *Probes) Wait() { p.wg.Wait() }

// SetTargets says which probes run for a pod from now on, and the pod's address. Those that
// run already go on with their counts; nil ends them all. New ones end with ctx at the latest.
func (p *Probes) SetTargets(ctx context.Context, uid types.UID, ip string, targets []pod.ProbeTarget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pp := p.pods[uid]
	if pp == nil {
		if len(targets) == 0 {
			return
		}
		pp = &podProbes{running: map[key]*running{}}
		p.pods[uid] = pp
	}
	pp.ip = ip
	wanted := map[key]bool{}
	for _, t := range targets {
		k := key{t.ContainerID, t.Kind}
		wanted[k] = true
		if pp.running[k] == nil {
			r := &running{target: t}
			pp.running[k] = r
			p.begin(ctx, uid, k, r)
		}
	}
	for k, r := range pp.running {
		if !wanted[k] {
			r.cancel()
			delete(pp.running, k)
		}
	}
	if len(pp.running) == 0 {
		delete(p.pods, uid)
	}
}

// Verdict is what a probe says at present: Unknown for one that does not run or is not sure yet.
func (p *Probes) Verdict(uid types.UID, containerID string, kind pod.ProbeKind) pod.Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pp := p.pods[uid]; pp != nil {
		if r := pp.running[key{containerID, kind}]; r != nil {
			return r.count.Verdict
		}
	}
	return pod.Unknown
}

// begin starts one probe's loop; the lock is held.
func (p *Probes) begin(ctx context.Context, uid types.UID, k key, r *running) {
	ctx, r.cancel = context.WithCancel(ctx)
	p.wg.Go(func() {
		defer r.cancel()
		p.loop(ctx, uid, k, r.target)
	})
}

// loop probes at once where the initial delay is over, and then once in each period.
func (p *Probes) loop(ctx context.Context, uid types.UID, k key, t pod.ProbeTarget) {
	period := time.Duration(max(t.Probe.PeriodSeconds, 0)) * time.Second
	if period == 0 {
		period = 10 * time.Second
	}
	first := time.Until(t.StartedAt.Add(time.Duration(t.Probe.InitialDelaySeconds) * time.Second))
	if time.Since(t.StartedAt) > period {
		// The container is no longer new, so the agent is: its probes must not all begin together.
		first = max(first, rand.N(period))
	}
	timer := time.NewTimer(max(first, 0))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(period)
		p.once(ctx, uid, k, t)
	}
}

func (p *Probes) once(ctx context.Context, uid types.UID, k key, t pod.ProbeTarget) {
	o, message := probe(ctx, t, p.address(uid), p.cfg.Exec)
	if ctx.Err() != nil {
		return
	}
	if o != Passed {
		p.cfg.OnFailure(uid, t, message, o == Errored)
	}
	if p.record(uid, k, o) {
		p.cfg.OnChange(uid)
	}
}

func (p *Probes) address(uid types.UID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pp := p.pods[uid]; pp != nil {
		return pp.ip
	}
	return ""
}

// record counts an outcome and says whether the verdict has changed.
func (p *Probes) record(uid types.UID, k key, o Outcome) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pp := p.pods[uid]
	if pp == nil {
		return false
	}
	r := pp.running[k]
	if r == nil {
		return false
	}
	before := r.count.Verdict
	r.count = r.count.Next(o, r.target.Probe)
	return r.count.Verdict != before
}
