// Package podrun brings pods to what agent/pod plans. It owns one worker for each pod (by
// UID), and in it the loop: observe, plan, remember, report, execute. It decides nothing that
// Plan can decide; it keeps what Plan cannot read from the world (facts, through the store)
// and what only this run knows (pulls and hooks under way, troubles, probe verdicts).
//
// Invariants:
//   - Facts are durable before the first step of the plan that came with them.
//   - What is observed but not assigned is removed only after the store is complete, and
//     what the store holds but cannot read counts as assigned.
//   - A step that fails delays itself and the steps that need it, with jitter and a cap, and
//     nothing else. A change of the pod's definition clears all delays.
//   - Pulls and hooks never block a worker, so a pod can be deleted at any time.
//   - At rest there is no timer but the slow resync, and no write.
package podrun

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/probe"
	"coracle/agent/store"
	"coracle/agent/volume"
)

// Config is what a Runner needs. All is required unless it says otherwise.
type Config struct {
	Store   Store
	Runtime Runtime
	Images  Images
	Network Network
	Volumes Volumes
	Cgroups Cgroups
	Outbox  Outbox
	Events  Events
	Log     *slog.Logger

	// Token gives service-account tokens; nil: volumes that need one fail with a sentence.
	Token func(ctx context.Context, r volume.TokenRequest) (volume.Token, error)

	NodeName string
	// LogDir holds a folder for each pod's logs.
	LogDir string
	// HostIPs are the node's addresses now, primary first; nil: none are reported.
	HostIPs func() []string
	// Allocatable is the node's, for resourceFieldRef; nil: empty.
	Allocatable func() v1.ResourceList
	// Node is the node's own object as last known, for labels and taints; nil, or a nil Node: pods are not turned away for them.
	Node func() *v1.Node
	// Admission is asked before a pod is run for the first time; a rejection fails the pod. Nil: only what pod.Occupancy knows counts.
	Admission func(p *v1.Pod) *pod.Rejection
	// Devices are those of device plugins; nil: the node has none.
	Devices Devices
	// RestartBackOffMax bounds the wait before a container is restarted; zero: five minutes.
	RestartBackOffMax time.Duration
	// UnsafeSysctls are those that pods may set beyond the safe ones.
	UnsafeSysctls []string
	// NoAppArmor says that the machine does not enforce AppArmor profiles.
	NoAppArmor bool
	// MemoryBytes of the machine, for OOM scores; 0: not known.
	MemoryBytes int64
	// Memory is how containers' memory is treated beyond their limits.
	Memory pod.MemoryPolicy
	// ClusterDomain, such as cluster.local; nil: cluster.local.
	ClusterDomain func() string
	// ClusterDNS are the addresses that pods ask; nil: none, so that pods get the machine's.
	ClusterDNS func() []string
	// ResolvConf is the machine's resolver configuration. Default: /etc/resolv.conf.
	ResolvConf string
	// MaxStarts bounds how many steps that start things run at a time. Default: two for each CPU.
	MaxStarts int
}

// resyncEvery is how often every pod is looked at again without a reason: it covers events
// that were lost, and costs one read of containerd for each pod.
const resyncEvery = 5 * time.Minute

// Runner runs the pods of this node.
type Runner struct {
	cfg   Config
	slots chan struct{} // one element for each step that may start things now

	mu      sync.Mutex
	workers map[types.UID]*worker
	wg      sync.WaitGroup // of the workers

	services  serviceCache
	admission admission
	started   startTimes
	probes    *probe.Probes
}

// New checks the configuration.
func New(cfg Config) (*Runner, error) {
	for name, missing := range map[string]bool{
		"Store": cfg.Store == nil, "Runtime": cfg.Runtime == nil, "Images": cfg.Images == nil, "Network": cfg.Network == nil,
		"Volumes": cfg.Volumes == nil, "Cgroups": cfg.Cgroups == nil, "Outbox": cfg.Outbox == nil, "Events": cfg.Events == nil,
		"Log": cfg.Log == nil, "NodeName": cfg.NodeName == "", "LogDir": cfg.LogDir == "",
	} {
		if missing {
			return nil, errors.New("podrun: " + name + " is required")
		}
	}
	if cfg.MaxStarts <= 0 {
		cfg.MaxStarts = 2 * runtime.NumCPU()
	}
	if cfg.HostIPs == nil {
		cfg.HostIPs = func() []string { return nil }
	}
	if cfg.Allocatable == nil {
		cfg.Allocatable = func() v1.ResourceList { return nil }
	}
	if cfg.ClusterDomain == nil {
		cfg.ClusterDomain = func() string { return "cluster.local" }
	}
	if cfg.ClusterDNS == nil {
		cfg.ClusterDNS = func() []string { return nil }
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.Token == nil {
		cfg.Token = func(context.Context, volume.TokenRequest) (volume.Token, error) {
			return volume.Token{}, errors.New("no source of service-account tokens is configured")
		}
	}
	r := &Runner{cfg: cfg, slots: make(chan struct{}, cfg.MaxStarts), workers: map[types.UID]*worker{}}
	r.probes = probe.New(probe.Config{Exec: cfg.Runtime, OnChange: r.Wake, OnOutcome: r.probed})
	return r, nil
}

// Run works until ctx ends. It stops no pod: when it returns, its workers have ended and containers run on.
func (r *Runner) Run(ctx context.Context) error {
	changes := r.cfg.Store.Watch()
	defer r.cfg.Store.Unwatch(changes)
	defer r.wg.Wait()
	r.wg.Go(func() {
		if err := r.probes.Run(ctx); err != nil {
			r.cfg.Log.Error("probes ended", "err", err)
		}
	})

	r.lookAtAll(ctx, causeOther)
	sweep := time.NewTimer(r.sweep(ctx))
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-changes:
			if !ok {
				return errors.New("podrun: the store was closed")
			}
			if r.changed(ctx, c) {
				sweep.Reset(0)
			}
		case uid := <-r.cfg.Runtime.Changes():
			if uid == "" {
				sweep.Reset(0)
				continue
			}
			r.wake(ctx, uid, causeRuntime)
		case <-sweep.C:
			r.lookAtAll(ctx, causeOther)
			sweep.Reset(r.sweep(ctx))
		}
	}
}

// Wake says "look again at this pod", for parts that podrun does not know. A pod that has no worker is left alone.
func (r *Runner) Wake(uid types.UID) {
	if w := r.find(uid); w != nil {
		w.wake(causeOther)
	}
}

// changed passes a change of the store on. It reports whether all of the node should be looked at.
func (r *Runner) changed(ctx context.Context, c store.Change) (all bool) {
	switch {
	case c.All, c.Completed:
		r.services.forget()
		r.lookAtAll(ctx, causeDesired)
		return true
	case c.Kind == store.KindPod:
		r.wake(ctx, types.UID(c.UID), causeDesired)
	case c.Kind == store.KindConfigMap, c.Kind == store.KindSecret:
		r.wakeSource(c.Kind, c.Namespace, c.Name)
	case c.Kind == store.KindService:
		r.services.forget()
	}
	return false
}

// lookAtAll wakes every worker once, and makes those that assigned pods lack.
func (r *Runner) lookAtAll(ctx context.Context, why cause) {
	objects := r.cfg.Store.Objects(store.KindPod)
	r.mu.Lock()
	all := make([]types.UID, 0, len(r.workers))
	for uid := range r.workers {
		all = append(all, uid)
	}
	for _, o := range objects {
		if r.workers[types.UID(o.UID)] == nil {
			all = append(all, types.UID(o.UID))
		}
	}
	r.mu.Unlock()
	for _, uid := range all {
		r.wake(ctx, uid, why)
	}
}

// sweep finds pods of which the node holds anything and that have no worker yet, and gives
// them one. It returns when to sweep again.
func (r *Runner) sweep(ctx context.Context) time.Duration {
	uids, err := r.present(ctx)
	for _, uid := range uids {
		if r.find(uid) == nil {
			r.wake(ctx, uid, causeOther)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			r.cfg.Log.Warn("node not wholly observed, trying again", "err", err)
		}
		return jitter(10 * time.Second)
	}
	return jitter(resyncEvery)
}

// present lists all pods of which anything is on the node. What could be read is returned beside the error.
func (r *Runner) present(ctx context.Context) ([]types.UID, error) {
	seen := map[types.UID]bool{}
	var errs []error
	observed, err := r.cfg.Runtime.ObserveAll(ctx)
	errs = append(errs, err)
	for uid := range observed {
		seen[uid] = true
	}
	lists := []func(context.Context) (map[types.UID]bool, error){r.cfg.Volumes.Pods, r.cfg.Cgroups.Pods}
	if r.cfg.Devices != nil {
		lists = append(lists, r.cfg.Devices.Pods)
	}
	for _, list := range lists {
		pods, err := list(ctx)
		errs = append(errs, err)
		for uid := range pods {
			seen[uid] = true
		}
	}
	attached, err := r.cfg.Network.Attached(ctx)
	errs = append(errs, err)
	for _, uid := range attached {
		seen[uid] = true
	}
	for key := range r.cfg.Store.Facts(factsBucket) {
		seen[types.UID(key)] = true
	}
	uids := make([]types.UID, 0, len(seen))
	for uid := range seen {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	return uids, errors.Join(errs...)
}

func (r *Runner) find(uid types.UID) *worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.workers[uid]
}

// wake finds the pod's worker, or makes one that works until ctx, which is Run's, ends.
func (r *Runner) wake(ctx context.Context, uid types.UID, why cause) {
	if ctx.Err() != nil || uid == "" {
		return
	}
	r.mu.Lock()
	w := r.workers[uid]
	if w == nil {
		w = newWorker(r, uid)
		r.workers[uid] = w
		r.wg.Go(func() { w.run(ctx) })
	}
	w.wake(why) // under the lock, so that forget sees it
	r.mu.Unlock()
}

// wakeSource wakes the pods that name a ConfigMap or Secret.
func (r *Runner) wakeSource(kind, namespace, name string) {
	r.mu.Lock()
	var hit []*worker
	for _, w := range r.workers {
		if w.names(kind, namespace, name) {
			hit = append(hit, w)
		}
	}
	r.mu.Unlock()
	for _, w := range hit {
		w.wake(causeSource)
	}
}

// forget ends a worker whose pod is gone, unless it was woken in between.
func (r *Runner) forget(w *worker) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.pendingWake() {
		return false
	}
	delete(r.workers, w.uid)
	return true
}

// revive begins a pod anew whose file was gone for as long as it took to end it, and then came back.
func (r *Runner) revive(ctx context.Context, uid types.UID) {
	if p, ok := r.cfg.Store.Pod(uid); ok && pod.Static(p) && !isMirror(p) {
		r.wake(ctx, uid, causeDesired)
	}
}

// Snapshot says where each pod stands, ordered by namespace and name. For `coracle-agent status`.
func (r *Runner) Snapshot() []PodView {
	r.mu.Lock()
	views := make([]PodView, 0, len(r.workers))
	for _, w := range r.workers {
		if v := w.snapshot(); v.Name != "" { // a mirror pod's worker has nothing to show
			views = append(views, v)
		}
	}
	r.mu.Unlock()
	slices.SortFunc(views, func(a, b PodView) int {
		return strings.Compare(a.Namespace+"/"+a.Name+"/"+string(a.UID), b.Namespace+"/"+b.Name+"/"+string(b.UID))
	})
	return views
}

// jitter spreads d by a fifth, so that what failed together is not tried again together.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + time.Duration(rand.Int64N(int64(d)/5+1))
}
