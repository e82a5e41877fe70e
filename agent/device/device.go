// Package device is the node's side of the Kubernetes device plugin API v1beta1. It owns the folder of the plugins'
// sockets, the plugins that have registered, what devices they offer, and which pod has which of them.
//
//	plugin ──Register──▶ kubelet.sock        node status ◀── Counts
//	plugin ◀──ListAndWatch, Allocate, …──    podrun ◀── Admit, Prepare, Health, Release
//
// It does not decide which pods the node takes: podrun asks for devices first and gives them back where the pod does
// not fit for another reason.
//
// Invariants:
//   - A device belongs to one pod at most. The containers of a pod share none, save that those of init containers that
//     have ended go on to later ones.
//   - Which devices a pod has, and what the plugin wants done for them, is durable before the pod is admitted: a
//     container that is started again, by this agent or a later one, gets the same without asking the plugin.
//   - A resource whose plugin went away has nothing to give. Pods that have its devices keep them.
//   - Nothing runs at rest but the listening socket and one stream for each plugin.
package device

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Facts is where the books are kept. *store.Store is one.
type Facts interface {
	PutFact(bucket, key string, value []byte) error
	Facts(bucket string) map[string][]byte
	DeleteFact(bucket string, keys ...string) error
}

// Config is what Devices need. All is required unless it says otherwise.
type Config struct {
	// Dir is the folder of the sockets: device-plugins below the node's root folder.
	Dir   string
	Facts Facts
	Log   *slog.Logger
	// Changed is called when Counts may give something else; nil: nobody cares.
	Changed func()
	// Wake is called for each pod of whose devices the health has changed; nil: nobody cares.
	Wake func(uid types.UID)
}

// Buckets of the node's store: records of pods by uid, and the names of resources that plugins have registered.
const (
	bucketPods      = "device"
	bucketResources = "device-resource"
)

// gonePatience is how long a resource is shown, with nothing to give, after its plugin went away: a plugin that is
// upgraded comes back within it. It is Kubernetes' time.
const gonePatience = 5 * time.Minute

// Devices are the devices of this node that plugins offer. Safe for concurrent use.
type Devices struct {
	cfg      Config
	arrivals chan *plugin // handed over: Register waits until Run has taken it

	// admitting is held while one pod is given its devices, so that what is free stays free while plugins are asked.
	admitting sync.Mutex

	mu        sync.Mutex
	resources map[string]*resource
	pods      map[types.UID]record
	gap       string // why plugins cannot register
}

// resource is what one plugin offers.
type resource struct {
	plugin  *plugin         // the last that registered; nil: it went away, or has not come back since the agent's start
	healthy map[string]bool // devices by id, as listed last
	gone    time.Time       // when the plugin went away; zero: it is there
	// preStart says that the plugin, also one that went away, is to be told before a container begins.
	preStart bool
	// forgotten says that a later run of the agent will not know the resource.
	forgotten bool
}

// New reads what earlier runs have given to pods. It touches no folder; Run does.
func New(cfg Config) (*Devices, error) {
	if cfg.Dir == "" || cfg.Facts == nil || cfg.Log == nil {
		return nil, errors.New("device: Dir, Facts and Log are required")
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Wake == nil {
		cfg.Wake = func(types.UID) {}
	}
	d := &Devices{cfg: cfg, arrivals: make(chan *plugin), resources: map[string]*resource{}, pods: map[types.UID]record{}}
	for name := range cfg.Facts.Facts(bucketResources) {
		d.resources[name] = &resource{gone: time.Now()}
	}
	for uid, raw := range cfg.Facts.Facts(bucketPods) {
		rec, err := decodeRecord(raw)
		if err != nil {
			cfg.Log.Error("devices of a pod are not known any more; they may be given to another", "uid", uid, "err", err)
			continue
		}
		d.pods[types.UID(uid)] = rec
	}
	return d, nil
}

// Count is how many devices of a resource there are, and how many of them are healthy.
type Count struct{ Capacity, Allocatable int64 }

// Counts are the resources for the node's status. One whose plugin went away for good is shown with none: a Node keeps
// what nobody takes back.
func (d *Devices) Counts(now time.Time) map[v1.ResourceName]Count {
	out, forgotten := d.count(now)
	if len(forgotten) > 0 {
		if err := d.cfg.Facts.DeleteFact(bucketResources, forgotten...); err != nil {
			d.cfg.Log.Warn("resources of plugins that went away stay in the books", "err", err)
		}
	}
	return out
}

func (d *Devices) count(now time.Time) (out map[v1.ResourceName]Count, forgotten []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, r := range d.resources {
		if !r.gone.IsZero() && now.Sub(r.gone) >= gonePatience && !r.forgotten {
			r.healthy, r.forgotten = nil, true
			forgotten = append(forgotten, name)
		}
		c := Count{Capacity: int64(len(r.healthy))}
		for _, healthy := range r.healthy {
			if healthy && r.gone.IsZero() {
				c.Allocatable++
			}
		}
		if out == nil {
			out = map[v1.ResourceName]Count{}
		}
		out[v1.ResourceName(name)] = c
	}
	return out, forgotten
}

// Gap is a sentence on why plugins cannot register; empty: they can.
func (d *Devices) Gap() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gap
}

// Health is how the devices of a pod's containers are, by container; nil for a pod without any.
func (d *Devices) Health(uid types.UID) map[string][]v1.ResourceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	rec, ok := d.pods[uid]
	if !ok {
		return nil
	}
	out := map[string][]v1.ResourceStatus{}
	for container, grants := range rec.Containers {
		for name, g := range grants {
			s := v1.ResourceStatus{Name: v1.ResourceName(name)}
			for _, id := range g.Devices {
				s.Resources = append(s.Resources, v1.ResourceHealth{ResourceID: v1.ResourceID(id), Health: d.health(name, id)})
			}
			out[container] = append(out[container], s)
		}
		slices.SortFunc(out[container], func(a, b v1.ResourceStatus) int { return strings.Compare(string(a.Name), string(b.Name)) })
	}
	return out
}

func (d *Devices) health(name, id string) v1.ResourceHealthStatus {
	r := d.resources[name]
	if r == nil || !r.gone.IsZero() {
		return v1.ResourceHealthStatusUnknown
	}
	switch healthy, listed := r.healthy[id]; {
	case !listed:
		return v1.ResourceHealthStatusUnknown
	case healthy:
		return v1.ResourceHealthStatusHealthy
	}
	return v1.ResourceHealthStatusUnhealthy
}

// Pods are those that have devices.
func (d *Devices) Pods(context.Context) (map[types.UID]bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[types.UID]bool{}
	for uid := range d.pods {
		out[uid] = true
	}
	return out, nil
}

// Release takes a pod's devices back. None of its containers may run.
func (d *Devices) Release(uid types.UID) error {
	d.mu.Lock()
	_, ok := d.pods[uid]
	d.mu.Unlock()
	if !ok {
		return nil
	}
	if err := d.cfg.Facts.DeleteFact(bucketPods, string(uid)); err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.pods, uid)
	d.mu.Unlock()
	return nil
}
