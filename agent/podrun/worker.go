package podrun

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/store"
)

// factsBucket is where facts are kept in the store, by pod UID.
const factsBucket = "podrun"

// cause is why a worker is woken.
type cause int

const (
	causeOther   cause = 1 << iota
	causeRuntime       // something happened in containerd
	causeDesired       // the pod's object changed, came or went
	causeSource        // a ConfigMap or Secret that the pod names changed
)

// worker runs one pod. Its own goroutine is the only one that observes, plans and executes;
// jobs (pulls and hooks) touch only what mu guards.
type worker struct {
	r    *Runner
	uid  types.UID
	log  *slog.Logger
	wakC chan struct{} // one slot: further wakes before the next look say the same

	mu       sync.Mutex
	causes   cause
	images   map[string]pod.Image   // by container
	shown    map[string]shown       // image volumes, by name
	troubles map[string]pod.Trouble // by container
	live     map[string]pod.Live    // by container id
	jobs     map[string]context.CancelFunc
	jobsDone sync.WaitGroup
	sources  map[string]bool // kind/name of the ConfigMaps and Secrets that the pod names
	shared   *v1.Pod         // the pod, for jobs
	killing  map[string]bool // container ids whose end was announced
	view     PodView
	end      *pod.Failed // why the node ends the pod
	spare    bool        // the disk is short
	// storageAt is when what the pod writes is measured next.
	storageAt time.Time
	// resizeError is why the last step of a resize did not succeed.
	resizeError string

	// Below: the worker's goroutine only.
	pod          *v1.Pod // as last assigned; nil: never seen by this run
	factsRaw     []byte  // as stored
	facts        pod.Facts
	factsLoaded  bool
	volumes      map[string]string
	volumesFor   string // resourceVersion of the pod that volumes were made for
	refreshAt    time.Time
	cgroupParent string
	failures     map[string]*failure // by the step's sentence
	lastDone     map[string]bool     // steps of the last round that ended well
	lastErr      string
	observeFails int
	// loosened and settled are the generations of the resize that the pod's cgroup was last set for.
	loosened, settled int64
	admitted          bool      // it is decided whether the node runs the pod
	freed             bool      // what the pod had is others' to take
	revived           bool      // the pod had ended with the machine, and begins anew
	doubt             time.Time // until when a rejection may still turn out wrong
}

// failure is the back-off of one step.
type failure struct {
	count int
	until time.Time
	err   error
}

func newWorker(r *Runner, uid types.UID) *worker {
	return &worker{
		r: r, uid: uid, log: r.cfg.Log.With("uid", uid), wakC: make(chan struct{}, 1),
		images: map[string]pod.Image{}, shown: map[string]shown{}, troubles: map[string]pod.Trouble{}, live: map[string]pod.Live{},
		jobs: map[string]context.CancelFunc{}, failures: map[string]*failure{}, killing: map[string]bool{},
		view: PodView{UID: uid},
	}
}

func (w *worker) wake(why cause) {
	w.mu.Lock()
	w.causes |= why
	w.mu.Unlock()
	select {
	case w.wakC <- struct{}{}:
	default:
	}
}

func (w *worker) pendingWake() bool { return len(w.wakC) > 0 }

func (w *worker) run(ctx context.Context) {
	defer w.jobsDone.Wait()
	defer w.cancelJobs("")
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next, gone := w.look(ctx)
		if gone && w.r.forget(w) {
			w.r.revive(ctx, w.uid)
			return
		}
		var alarm <-chan time.Time
		if !next.IsZero() {
			timer.Reset(max(time.Until(next), soonest))
			alarm = timer.C
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wakC:
		case <-alarm:
		}
	}
}

// soonest is the least time between two looks that nobody asked for: a plan that wants to be
// asked again for a moment that has passed must not keep a core busy.
const soonest = 5 * time.Millisecond

// maxRounds bounds one look: after that many plans in a row the worker lets its timer decide.
const maxRounds = 50

// look observes, plans and executes until there is nothing to do now. It returns when to
// look again (zero: when woken) and whether the pod is gone for good.
func (w *worker) look(ctx context.Context) (next time.Time, gone bool) {
	w.lastDone = nil
	for range maxRounds {
		if ctx.Err() != nil {
			return time.Time{}, false
		}
		w.takeCauses()
		desired, known := w.desired()
		if !known {
			return time.Time{}, false
		}
		if again := w.admit(ctx, &desired); !again.IsZero() {
			return again, false
		}
		observed, err := w.observe(ctx, desired)
		if err != nil {
			return w.observeFailed(ctx, err), false
		}
		w.observeFails = 0
		result := w.plan(desired, observed)
		if err := w.remember(result.Facts); err != nil {
			return w.observeFailed(ctx, err), false
		}
		if err := w.free(result); err != nil {
			return w.observeFailed(ctx, err), false
		}
		w.report(ctx, desired, observed, result)
		if result.Released && (desired.Removed || pod.Static(desired.Pod)) {
			if err := w.clear(ctx); err != nil {
				return w.observeFailed(ctx, err), false
			}
			return time.Time{}, true
		}
		next = result.WakeAt
		steps, retry := w.due(result.Steps, time.Now())
		next = earliest(next, retry)
		if len(steps) == 0 {
			next = earliest(next, w.watchStorage(ctx, desired, observed))
			return earliest(next, w.refresh(ctx, desired)), false
		}
		w.execute(ctx, steps, observed, desired)
	}
	return earliest(next, time.Now().Add(time.Second)), false
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// takeCauses clears back-offs that the reason for waking has made pointless.
func (w *worker) takeCauses() {
	w.mu.Lock()
	defer w.mu.Unlock()
	why := w.causes
	w.causes = 0
	if why&causeDesired != 0 {
		clear(w.failures)
	}
	if why&causeSource != 0 {
		clear(w.failures)
		maps.DeleteFunc(w.troubles, func(_ string, t pod.Trouble) bool { return t.Reason == reasonConfig })
		w.refreshAt = time.Unix(1, 0) // long ago: content is brought up to date in this look
	}
}

// desired reads what is wanted. known is false where that cannot be told yet: then nothing is done.
func (w *worker) desired() (d pod.Desired, known bool) {
	d.HostIPs, d.BackOffMax = w.r.cfg.HostIPs(), w.r.cfg.RestartBackOffMax
	p, ok := w.r.cfg.Store.Pod(w.uid)
	switch {
	case ok && isMirror(p):
		w.r.Wake(types.UID(p.Annotations[v1.MirrorPodAnnotationKey])) // it has a status to be shown by this one
		return d, false
	case ok:
		if w.pod == nil || w.pod.ResourceVersion != p.ResourceVersion {
			w.setPod(p)
		}
		d.Pod = w.pod
	case w.held():
		return d, false // held but unreadable: unknown is not absent
	case w.pod == nil && !w.absent():
		return d, false
	case w.pod != nil && pod.Static(w.pod):
		d.Pod = w.ending()
	default:
		d.Pod, d.Removed = w.pod, true
	}
	if d.Pod != nil {
		last, _, ok := w.r.cfg.Outbox.Last(w.uid)
		if !ok {
			last = *d.Pod.Status.DeepCopy()
			if pod.Static(d.Pod) {
				_, last = w.mirror()
			}
		}
		d.Previous = last
	}
	return d, true
}

// absent says whether a pod that nothing names can be told to be gone.
func (w *worker) absent() bool {
	w.loadFacts()
	return w.r.cfg.Store.LocalWhole() && (w.facts.Static || w.r.cfg.Store.Complete())
}

// held says whether the store has an object of this pod, readable or not.
func (w *worker) held() bool {
	return slices.ContainsFunc(w.r.cfg.Store.Objects(store.KindPod), func(o store.Object) bool { return o.UID == string(w.uid) })
}

func (w *worker) setPod(p *v1.Pod) {
	if w.pod == nil { // before the first job: jobs read it too
		w.log = w.r.cfg.Log.With("pod", p.Namespace+"/"+p.Name, "uid", w.uid)
	}
	w.pod = p
	if w.admitted && !w.freed && w.facts.Finished == "" {
		w.r.occupy(pod.Granted(p, w.facts.Allocated))
	}
	named := sourcesOf(p)
	w.mu.Lock()
	if w.shared != nil && redefined(w.shared, p) { // what could not be resolved may be resolved now
		maps.DeleteFunc(w.troubles, func(_ string, t pod.Trouble) bool { return t.Reason == reasonConfig })
	}
	w.sources, w.shared = named, p
	w.view.Namespace, w.view.Name = p.Namespace, p.Name
	w.mu.Unlock()
}

// redefined says whether more than the pod's status has changed.
func redefined(before, now *v1.Pod) bool {
	return before.Generation != now.Generation || !maps.Equal(before.Annotations, now.Annotations) || !maps.Equal(before.Labels, now.Labels)
}

// names says whether the pod refers to this ConfigMap or Secret.
func (w *worker) names(kind, namespace, name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view.Namespace == namespace && w.sources[kind+"/"+name]
}

// remember stores facts where they changed, before anything is done upon them.
func (w *worker) remember(f pod.Facts) error {
	raw, err := f.Encode()
	if err != nil {
		return err
	}
	if bytes.Equal(raw, w.factsRaw) {
		return nil
	}
	if w.pod == nil { // an orphan needs no memory
		return nil
	}
	if err := w.r.cfg.Store.PutFact(factsBucket, string(w.uid), raw); err != nil {
		return err
	}
	w.facts, w.factsRaw = f, raw
	if f.Finished != "" {
		w.r.vacate(w.uid)
		return w.r.releaseDevices(w.uid)
	}
	return nil
}

func (w *worker) loadFacts() {
	if w.factsLoaded {
		return
	}
	w.factsLoaded = true
	raw, ok := w.r.cfg.Store.Fact(factsBucket, string(w.uid))
	if !ok {
		return
	}
	f, err := pod.DecodeFacts(raw)
	if err != nil {
		w.log.Error("facts unreadable, starting without", "err", err)
		return
	}
	if f, w.revived = f.Revived(); w.revived {
		w.log.Info("a pod of the node's own files begins anew after the machine's shutdown")
	}
	w.facts, w.factsRaw = f, raw
}

// free gives back what a pod had of the node once none of its containers can run any more, before anybody hears of that:
// the scheduler counts a pod of a final phase out, and may bind the next in the same moment.
func (w *worker) free(r pod.Result) error {
	if w.freed || !r.Released && !pod.Final(r.Status.Phase) {
		return nil
	}
	w.r.vacate(w.uid)
	if err := w.r.releaseDevices(w.uid); err != nil {
		return err
	}
	w.freed = true
	return nil
}

// clear forgets a pod of which nothing is left.
func (w *worker) clear(ctx context.Context) error {
	if err := w.removeLogs(); err != nil {
		return err
	}
	if err := w.r.cfg.Store.DeleteFact(factsBucket, string(w.uid)); err != nil {
		return err
	}
	w.r.vacate(w.uid)
	if err := w.r.releaseDevices(w.uid); err != nil {
		return err
	}
	w.r.cfg.Outbox.Forget(w.uid)
	w.r.probes.SetTargets(w.uid, "", nil)
	return nil
}

// observeFailed logs a change of error and says when to look again.
func (w *worker) observeFailed(ctx context.Context, err error) time.Time {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return time.Time{}
	}
	if text := err.Error(); text != w.lastErr {
		w.lastErr = text
		w.log.Warn("pod not looked at, trying again", "err", err)
		w.note(err)
	}
	w.observeFails++
	return time.Now().Add(jitter(stepBackOff(w.observeFails)))
}
