package device

import (
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// want is how many devices of a resource a container asks for.
type want struct {
	container, resource string
	count               int
	// ends says that the container has ended by the time the next one runs.
	ends bool
}

// Admit gives a pod the devices that it asks for, or says why not, in Kubernetes' words. It is durable when it returns
// nil. Devices that the pod has already stay its own. A pod that is not run after all is to be released.
func (d *Devices) Admit(ctx context.Context, p *v1.Pod) *pod.Rejection {
	wants := d.wants(p)
	if len(wants) == 0 {
		return nil
	}
	if err := d.give(ctx, p.UID, wants); err != nil {
		return &pod.Rejection{Reason: "UnexpectedAdmissionError", Message: fmt.Sprintf("Allocate failed due to %s, which is unexpected", err)}
	}
	return nil
}

// wants are those of a pod for resources that plugins have registered, in the order in which its containers begin.
func (d *Devices) wants(p *v1.Pod) []want {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.resources) == 0 {
		return nil
	}
	var out []want
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		out = append(out, d.wantsOf(c, pod.KindOf(c) == pod.Init)...)
	}
	for i := range p.Spec.Containers {
		out = append(out, d.wantsOf(&p.Spec.Containers[i], false)...)
	}
	return out
}

func (d *Devices) wantsOf(c *v1.Container, ends bool) []want {
	var out []want
	for _, name := range slices.Sorted(maps.Keys(c.Resources.Limits)) {
		q := c.Resources.Limits[name]
		if d.resources[string(name)] != nil && q.Value() > 0 {
			out = append(out, want{container: c.Name, resource: string(name), count: int(q.Value()), ends: ends})
		}
	}
	return out
}

// give fulfils all wants or none.
func (d *Devices) give(ctx context.Context, uid types.UID, wants []want) error {
	d.admitting.Lock()
	defer d.admitting.Unlock()
	d.mu.Lock()
	rec := d.pods[uid].clone()
	d.mu.Unlock()
	reusable := map[string]map[string]bool{} // by resource
	for _, w := range wants {
		if reusable[w.resource] == nil {
			reusable[w.resource] = map[string]bool{}
		}
		g, has := rec.Containers[w.container][w.resource]
		switch {
		case !has:
			var err error
			if g, err = d.grant(ctx, uid, rec, w, reusable[w.resource]); err != nil {
				return err
			}
			rec.put(w.container, w.resource, g)
		case len(g.Devices) != w.count:
			return fmt.Errorf("pod %q container %q changed request for resource %q from %d to %d", uid, w.container, w.resource, len(g.Devices), w.count)
		}
		for _, id := range g.Devices {
			reusable[w.resource][id] = w.ends
		}
	}
	raw, err := rec.encode()
	if err != nil {
		return err
	}
	if err := d.cfg.Facts.PutFact(bucketPods, string(uid), raw); err != nil {
		return err
	}
	d.mu.Lock()
	d.pods[uid] = rec
	d.mu.Unlock()
	return nil
}

// grant chooses devices for one want and has the plugin prepare them.
func (d *Devices) grant(ctx context.Context, uid types.UID, rec record, w want, reusable map[string]bool) (grant, error) {
	p, o, err := d.offer(uid, rec, w.resource)
	if err != nil {
		return grant{}, err
	}
	o.reusable = reusable
	over, free, err := o.split(w.resource, w.count)
	if err != nil {
		return grant{}, err
	}
	var preferred []string
	if len(over) < w.count {
		// As with Kubernetes, a plugin that offers advice and then gives none fails the pod: it may depend on its choice.
		if preferred, err = p.prefer(ctx, free, over, w.count); err != nil {
			return grant{}, err
		}
	}
	return p.allocate(ctx, choose(w.count, over, free, preferred))
}

// offer is what a resource has to give now.
func (d *Devices) offer(uid types.UID, rec record, name string) (*plugin, offer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.resources[name]
	if r == nil {
		return nil, offer{}, fmt.Errorf("cannot allocate unregistered device %s", name)
	}
	o := offer{healthy: maps.Clone(r.healthy), taken: map[string]bool{}}
	some := slices.Contains(slices.Collect(maps.Values(o.healthy)), true)
	if r.plugin == nil || !r.gone.IsZero() || !some {
		return nil, offer{}, fmt.Errorf("no healthy devices present; cannot allocate unhealthy devices %s", name)
	}
	for other, theirs := range d.pods {
		if other != uid {
			theirs.devices(name, o.taken)
		}
	}
	rec.devices(name, o.taken)
	return r.plugin, o, nil
}
