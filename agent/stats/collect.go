package stats

import (
	"context"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/cgroup"
)

// group is one control group that was read.
type group struct {
	path  string
	at    time.Time
	usage cgroup.Usage
	rate  rate
	rated bool
	procs []int
}

// container is one running container.
type container struct {
	group
	name, id, image string
	began           time.Time
}

// podReading is one pod with its running containers, by name.
type podReading struct {
	pod        *v1.Pod
	status     v1.PodStatus
	group      group
	there      bool // the pod's group exists
	began      time.Time
	containers []container
	network    []link // nil: not known, or the node's own
}

// options say what is to be read beside CPU and memory.
type options struct {
	rates   bool // wait for a second reading where there is no rate
	network bool
}

// collect reads every pod of the node, in the order of namespace and name.
func (s *Stats) collect(ctx context.Context, o options) []podReading {
	pods := s.c.Pods.Pods()
	slices.SortFunc(pods, func(a, b *v1.Pod) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	s.rates.forget(time.Now())
	var out []podReading
	missing := false
	for _, p := range pods {
		status, released, ok := s.c.Statuses.Last(p.UID)
		if !ok || released {
			continue
		}
		r := s.readPod(p, status, o)
		missing = missing || r.there && !r.group.rated || slices.ContainsFunc(r.containers, func(c container) bool { return !c.rated })
		out = append(out, r)
	}
	if o.rates && missing && pause(ctx, leastWindow) {
		for i := range out {
			s.rateAgain(&out[i])
		}
	}
	return out
}

func (s *Stats) readPod(p *v1.Pod, status v1.PodStatus, o options) podReading {
	r := podReading{pod: p, status: status}
	if status.StartTime != nil {
		r.began = status.StartTime.Time
	}
	at := s.c.Cgroups.Pod(p)
	r.group, r.there = s.read(at, r.began, false)
	for _, list := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			cs := &list[i]
			if cs.State.Running == nil {
				continue
			}
			_, id, _ := strings.Cut(cs.ContainerID, "://")
			c := container{name: cs.Name, id: id, image: cs.Image, began: cs.State.Running.StartedAt.Time}
			var ok bool
			if c.group, ok = s.read(at.Container(id), c.began, o.network); ok {
				r.containers = append(r.containers, c)
			}
		}
	}
	if o.network && !p.Spec.HostNetwork {
		for _, c := range r.containers {
			if len(c.procs) > 0 {
				if r.network = s.links(c.procs[0]); r.network != nil {
					break
				}
			}
		}
	}
	return r
}

// read reads one group. False: it is gone.
func (s *Stats) read(at cgroup.Group, began time.Time, procs bool) (group, bool) {
	u, ok := at.Read()
	g := group{path: at.Path(), at: time.Now(), usage: u}
	if !ok {
		return g, false
	}
	g.rate, g.rated = s.rates.observe(g.path, g.at, began, u.CPU)
	if procs {
		g.procs = at.Processes()
	}
	return g, true
}

// rateAgain takes the second reading of what has no rate yet.
func (s *Stats) rateAgain(r *podReading) {
	at := s.c.Cgroups.Pod(r.pod)
	again := func(g *group, from cgroup.Group) {
		if g.rated {
			return
		}
		if next, ok := s.read(from, time.Time{}, false); ok {
			g.usage, g.at, g.rate, g.rated = next.usage, next.at, next.rate, next.rated
		}
	}
	if r.there {
		again(&r.group, at)
	}
	for i := range r.containers {
		again(&r.containers[i].group, at.Container(r.containers[i].id))
	}
}

// node reads the machine's own group. Its memory is that of /proc/meminfo where the kernel keeps none for the root.
func (s *Stats) node(ctx context.Context, rates bool) group {
	read := func() group {
		g, _ := s.read(s.c.Cgroups.Root(), time.Time{}, false)
		if g.usage.Memory == 0 {
			m := s.meminfo()
			g.usage.Memory = m["MemTotal"] - min(m["MemFree"], m["MemTotal"])
			g.usage.WorkingSet = g.usage.Memory - min(m["Inactive(file)"], g.usage.Memory)
			g.usage.RSS, g.usage.Cache, g.usage.Mapped = m["AnonPages"], m["Cached"], m["Mapped"]
		}
		return g
	}
	g := read()
	if rates && !g.rated && pause(ctx, leastWindow) {
		g = read()
	}
	return g
}

// pause waits. False: the asker has gone.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
