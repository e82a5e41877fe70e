package podrun

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// admission keeps the books that pod.Occupancy decides upon, for all workers.
type admission struct {
	mu     sync.Mutex
	books  pod.Occupancy
	loaded bool
}

// preempted is the end of a pod that makes room for a critical one.
var preempted = pod.Failed{
	Reason: "Preempting", Message: "Preempted in order to admit critical pod", Disruption: v1.PodReasonTerminationByKubelet,
}

// admit takes a new pod in, or says why not. Pods that must go for it are told to end. Devices are given first, as their
// plugins know best what is free.
func (r *Runner) admit(ctx context.Context, p *v1.Pod) *pod.Rejection {
	if r.cfg.Admission != nil {
		if rejected := r.cfg.Admission(p); rejected != nil {
			return rejected
		}
	}
	if r.cfg.Devices != nil {
		if rejected := r.cfg.Devices.Admit(ctx, p); rejected != nil {
			return rejected
		}
	}
	rejected := r.fit(p)
	if rejected != nil {
		if err := r.releaseDevices(p.UID); err != nil {
			r.cfg.Log.Warn("devices of a rejected pod not released yet", "uid", p.UID, "err", err)
		}
	}
	return rejected
}

// releaseDevices takes the pod's devices back once none of its containers can use them any more.
func (r *Runner) releaseDevices(uid types.UID) error {
	if r.cfg.Devices == nil {
		return nil
	}
	return r.cfg.Devices.Release(uid)
}

// fit takes a new pod into the books, or says why it does not fit.
func (r *Runner) fit(p *v1.Pod) *pod.Rejection {
	a := &r.admission
	a.mu.Lock()
	defer a.mu.Unlock()
	r.loadBooks()
	a.books.Allocatable, a.books.UnsafeSysctls, a.books.NoAppArmor = r.cfg.Allocatable(), r.cfg.UnsafeSysctls, r.cfg.NoAppArmor
	if r.cfg.Node != nil {
		a.books.Node = r.cfg.Node()
	}
	rejected, victims := a.books.Admit(p)
	if rejected != nil {
		return rejected
	}
	for _, v := range victims {
		a.books.Leave(v.UID)
		r.End(v.UID, preempted)
	}
	a.books.Take(p)
	return nil
}

// loadBooks counts in what an earlier run of the agent has admitted; the lock is held. Their workers may not have begun yet.
func (r *Runner) loadBooks() {
	if r.admission.loaded {
		return
	}
	r.admission.loaded = true
	facts := r.cfg.Store.Facts(factsBucket)
	for _, p := range r.cfg.Store.Pods() {
		if isMirror(p) {
			continue
		}
		f, err := pod.DecodeFacts(facts[string(p.UID)])
		if (err == nil && !f.StartTime.IsZero() || p.Status.StartTime != nil) && f.Finished == "" && !pod.Final(p.Status.Phase) {
			r.admission.books.Take(pod.Granted(p, f.Allocated))
		}
	}
}

// occupy counts a pod in that was admitted before, or that has changed.
func (r *Runner) occupy(p *v1.Pod) {
	r.admission.mu.Lock()
	defer r.admission.mu.Unlock()
	r.loadBooks()
	r.admission.books.Take(p)
}

func (r *Runner) vacate(uid types.UID) {
	r.admission.mu.Lock()
	defer r.admission.mu.Unlock()
	r.admission.books.Leave(uid)
}

// End has the node end a pod for good, for a reason of the node's own: eviction, preemption, its shutdown. The pod fails
// with f's reason and message once its containers have ended. It reports whether there is such a pod. A pod that has
// failed already keeps its first reason. What is asked is durable with the pod's next look, which begins at once.
func (r *Runner) End(uid types.UID, f pod.Failed) bool {
	w := r.find(uid)
	if w == nil {
		return false
	}
	w.mu.Lock()
	if w.end == nil {
		w.end = &f
	}
	w.mu.Unlock()
	w.wake(causeOther)
	return true
}

// Tenants are the pods that the node has taken and that have not ended, with the resources they were granted.
func (r *Runner) Tenants() []*v1.Pod {
	r.admission.mu.Lock()
	defer r.admission.mu.Unlock()
	r.loadBooks()
	return r.admission.books.Pods()
}

// DropDead has the containers of pods that have ended removed, with their logs. How they ended stays known. It says of how
// many pods it asked that now.
func (r *Runner) DropDead() int {
	r.mu.Lock()
	var ended []*worker
	for _, w := range r.workers {
		w.mu.Lock()
		if !w.spare && pod.Final(w.view.Phase) {
			w.spare = true
			ended = append(ended, w)
		}
		w.mu.Unlock()
	}
	r.mu.Unlock()
	for _, w := range ended {
		w.wake(causeOther)
	}
	return len(ended)
}

// affinityDoubt is how long the labels that a pod asks for may be on their way: a label and a pod that needs it are often made
// one right after the other, and reach the node in any order.
const affinityDoubt = 3 * time.Second

// admit decides once whether this node runs the pod at all; Plan ends it where it does not. again is when to ask again; zero: it is decided.
func (w *worker) admit(ctx context.Context, d *pod.Desired) (again time.Time) {
	if d.Pod == nil || d.Removed {
		return time.Time{}
	}
	w.mu.Lock()
	d.End, d.Spare = w.end, w.spare
	w.mu.Unlock()
	w.loadFacts()
	if w.revived && w.facts.Finished == "" && pod.Final(d.Previous.Phase) {
		d.Previous.Phase, d.Previous.Reason, d.Previous.Message = "", "", "" // how it had ended is no longer so
	}
	if w.admitted {
		return time.Time{}
	}
	p := d.Pod
	if !w.facts.StartTime.IsZero() || p.Status.StartTime != nil || p.DeletionTimestamp != nil || pod.Final(p.Status.Phase) {
		w.admitted = true
		if w.facts.Finished == "" && !pod.Final(p.Status.Phase) {
			w.r.occupy(pod.Granted(p, w.facts.Allocated))
		}
		return time.Time{}
	}
	now := time.Now()
	if pod.Static(p) && w.predecessor() {
		return now.Add(samePodWait)
	}
	rejected := w.r.admit(ctx, p)
	switch {
	case ctx.Err() != nil: // an answer that was cut short is none
		return now.Add(time.Second)
	case rejected == nil:
		w.admitted = true
		return time.Time{}
	case rejected.Reason == pod.AdmissionNodeAffinity && w.doubt.IsZero():
		w.doubt = now.Add(affinityDoubt)
		return w.doubt
	case rejected.Reason == pod.AdmissionNodeAffinity && now.Before(w.doubt):
		return w.doubt
	}
	d.End = rejected.Failed()
	return time.Time{}
}
