package probe

import (
	"container/heap"
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
	// OnOutcome is called for each probing that did not simply pass: o is Warned, Failed or Errored.
	OnOutcome func(uid types.UID, t pod.ProbeTarget, o Outcome, message string)
}

// Probes runs probes. It is safe for concurrent use.
//
// All probes wait in one queue ordered by time, behind one timer; a goroutine exists only
// while a probing is under way. So a probe at rest costs some 200 bytes.
type Probes struct {
	cfg  Config
	wake chan struct{} // one slot: the head of the queue has changed; more would say the same

	mu    sync.Mutex
	began time.Time // of Run; zero before
	pods  map[types.UID]*podProbes
	queue queue
}

type podProbes struct {
	ip      string
	running map[key]*running
}

type key struct {
	id   string // of the container
	kind pod.ProbeKind
}

// running is one probe in the list. All is guarded by Probes.mu but uid, key and target, which never change.
type running struct {
	uid    types.UID
	key    key
	target pod.ProbeTarget
	count  Count
	ended  [Warned + 1]uint32 // how often in which outcome
	due    time.Time
	at     int                // place in the queue; -1: not in it
	cancel context.CancelFunc // of the probing under way; nil: none
}

// New makes Probes. None run before Run and SetTargets.
func New(cfg Config) *Probes {
	return &Probes{cfg: cfg, wake: make(chan struct{}, 1), pods: map[types.UID]*podProbes{}}
}

// Run probes until ctx ends, and returns when what was under way has ended too.
func (p *Probes) Run(ctx context.Context) error {
	var under sync.WaitGroup
	defer under.Wait()
	p.begin()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, next := p.take(ctx, time.Now())
		for _, d := range due {
			under.Go(func() { p.once(d.ctx, d.running) })
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// begin gives times to the probes that were listed before Run.
func (p *Probes) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
	for _, pp := range p.pods {
		for _, r := range pp.running {
			p.schedule(r)
		}
	}
}

// idle is how long Run sleeps where nothing is listed.
const idle = time.Hour

// due is one probing to begin now.
type due struct {
	*running
	ctx context.Context //nolint:containedctx // handed to the goroutine of this one probing
}

// take removes what is due from the queue and puts it back for its next time. One that is
// still being probed is left out this time, as a ticker would. It returns when to come again.
func (p *Probes) take(ctx context.Context, now time.Time) (list []due, next time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		r := p.queue[0]
		if wait := r.due.Sub(now); wait > 0 {
			return list, wait
		}
		r.due = now.Add(period(r.target))
		heap.Fix(&p.queue, 0)
		if r.cancel == nil {
			ctx, cancel := context.WithCancel(ctx)
			r.cancel = cancel
			list = append(list, due{r, ctx})
		}
	}
	return list, idle
}

// defaultPeriod is Kubernetes' periodSeconds where the spec has none.
const defaultPeriod = 10 * time.Second

func period(t pod.ProbeTarget) time.Duration {
	if t.Probe.PeriodSeconds <= 0 {
		return defaultPeriod
	}
	return time.Duration(t.Probe.PeriodSeconds) * time.Second
}

// schedule puts a new probe into the queue: at once where the initial delay is over. Probes of
// containers that are older than this run of the agent are spread over their period, so that
// an agent that starts on a busy node does not probe everything in one instant.
func (p *Probes) schedule(r *running) {
	now := time.Now()
	r.due = r.target.StartedAt.Add(time.Duration(r.target.Probe.InitialDelaySeconds) * time.Second)
	if every := period(r.target); r.target.StartedAt.Before(p.began) && now.Sub(p.began) < every {
		if spread := now.Add(rand.N(every)); spread.After(r.due) {
			r.due = spread
		}
	}
	if r.due.Before(now) || r.due.Sub(now) > time.Duration(r.target.Probe.InitialDelaySeconds)*time.Second+period(r.target) {
		r.due = now // the clock was set back since the container started
	}
	heap.Push(&p.queue, r)
}

// SetTargets says which probes run for a pod from now on, and the pod's address. Those that
// run already go on with their counts; nil ends them all.
func (p *Probes) SetTargets(uid types.UID, ip string, targets []pod.ProbeTarget) {
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
			r := &running{uid: uid, key: k, target: t, at: -1}
			pp.running[k] = r
			if !p.began.IsZero() {
				p.schedule(r)
			}
		}
	}
	for k, r := range pp.running {
		if !wanted[k] {
			p.drop(pp, r)
		}
	}
	if len(pp.running) == 0 {
		delete(p.pods, uid)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// drop takes one probe out of the list; the lock is held.
func (p *Probes) drop(pp *podProbes, r *running) {
	if r.cancel != nil {
		r.cancel()
	}
	if r.at >= 0 {
		heap.Remove(&p.queue, r.at)
	}
	delete(pp.running, r.key)
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

// once carries out one probing.
func (p *Probes) once(ctx context.Context, r *running) {
	o, message := probe(ctx, r.target, p.address(r.uid), p.cfg.Exec)
	ended := ctx.Err() != nil
	changed := p.record(r, o, ended)
	if ended {
		return
	}
	if o != Passed {
		p.cfg.OnOutcome(r.uid, r.target, o, message)
	}
	if changed {
		p.cfg.OnChange(r.uid)
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

// record ends a probing and counts its outcome. It says whether the verdict of a probe that is still listed has changed.
func (p *Probes) record(r *running, o Outcome, ended bool) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.cancel()
	r.cancel = nil
	pp := p.pods[r.uid]
	if ended || pp == nil || pp.running[r.key] != r {
		return false
	}
	r.ended[o]++
	before := r.count.Verdict
	r.count = r.count.Next(o, r.target.Probe)
	return r.count.Verdict != before
}

// queue is a heap by time.
type queue []*running

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	r := x.(*running)
	r.at = len(*q)
	*q = append(*q, r)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	r := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	r.at = -1
	return r
}
