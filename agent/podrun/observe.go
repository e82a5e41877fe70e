package podrun

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/agent/runtime"
)

// observe reads the pod from every door and adds what this run knows.
func (w *worker) observe(ctx context.Context, d pod.Desired) (pod.Observed, error) {
	w.loadFacts()
	o, err := w.r.cfg.Runtime.Observe(ctx, w.uid)
	if err != nil {
		return o, fmt.Errorf("observe containers: %w", err)
	}
	o.UID, o.Facts = w.uid, w.facts
	if s := o.Sandbox; s != nil && s.NetnsPath != "" {
		r, ok := w.r.cfg.Network.Result(w.uid)
		s.Attached, s.IPs = ok, r.IPs
	}
	o.VolumesReady = w.volumes != nil && d.Pod != nil && w.volumesFor == d.Pod.ResourceVersion && w.showsAll()
	o.CgroupReady = w.cgroupParent != ""
	o.Loosened, o.Settled = w.loosened, w.settled
	if w.maybeTearDown(d) {
		if err := w.observeRest(ctx, &o); err != nil {
			return o, err
		}
	}
	if d.Pod != nil && pod.AsksRecursiveReadOnly(d.Pod) {
		o.RecursiveReadOnly = w.r.cfg.Runtime.Features(ctx).RecursiveReadOnly
	}
	w.addLastWords(&o)
	w.addOwn(&o)
	return o, nil
}

// How much of a log stands in for a termination message, as Kubernetes documents it.
const (
	lastWordsLines = 80
	lastWordsBytes = 2048
)

// addLastWords takes the end of the log as the message of a container that failed without
// leaving one, where the pod asks for that.
func (w *worker) addLastWords(o *pod.Observed) {
	if w.pod == nil {
		return
	}
	for i := range o.Containers {
		c := &o.Containers[i]
		if c.State != pod.Exited || c.ExitCode == 0 || c.Message != "" {
			continue
		}
		if last := w.facts.Containers[c.Name].Last; last != nil && last.ID == c.ID {
			continue
		}
		spec, _, ok := pod.FindContainer(w.pod, c.Name)
		if !ok || spec.TerminationMessagePolicy != v1.TerminationMessageFallbackToLogsOnError {
			continue
		}
		text, err := runtime.LastLog(w.logPath(c.Name, c.Attempt), lastWordsLines, lastWordsBytes)
		if err == nil {
			c.Message = text
		} else if !errors.Is(err, os.ErrNotExist) {
			w.log.Warn("end of log not readable", "container", c.Name, "attempt", c.Attempt, "err", err)
		}
	}
}

// maybeTearDown says whether Plan could remove what the pod has outside of containerd. For a
// pod that lives it never does, so reading it would be wasted.
func (w *worker) maybeTearDown(d pod.Desired) bool {
	return d.Removed || d.Pod == nil || d.Pod.DeletionTimestamp != nil || w.facts.Finished != "" || pod.Final(d.Previous.Phase)
}

func (w *worker) observeRest(ctx context.Context, o *pod.Observed) error {
	volumes, err := w.r.cfg.Volumes.Pods(ctx)
	if err != nil {
		return fmt.Errorf("observe volumes: %w", err)
	}
	cgroups, err := w.r.cfg.Cgroups.Pods(ctx)
	if err != nil {
		return fmt.Errorf("observe cgroups: %w", err)
	}
	attached, err := w.r.cfg.Network.Attached(ctx)
	if err != nil {
		return fmt.Errorf("observe network: %w", err)
	}
	o.Volumes, o.Cgroup, o.Network = volumes[w.uid], cgroups[w.uid], slices.Contains(attached, w.uid)
	return nil
}

// addOwn lays what this run of the agent knows over o, and forgets what concerns attempts that are gone.
func (w *worker) addOwn(o *pod.Observed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.ResizeError = w.resizeError
	o.Images, o.Troubles = maps.Clone(w.images), maps.Clone(w.troubles)
	o.VolumeImages = w.volumeImages()
	seen := map[string]bool{}
	for i := range o.Containers {
		c := &o.Containers[i]
		seen[c.ID] = true
		c.Live = w.live[c.ID]
		if c.State == pod.Running {
			c.Live.Startup = w.r.probes.Verdict(w.uid, c.ID, pod.Startup)
			c.Live.Readiness = w.r.probes.Verdict(w.uid, c.ID, pod.Readiness)
			c.Live.Liveness = w.r.probes.Verdict(w.uid, c.ID, pod.Liveness)
		}
		if t, ok := w.troubles[c.Name]; ok && t.Attempt <= c.Attempt && c.State != pod.Created {
			delete(w.troubles, c.Name)
			delete(o.Troubles, c.Name)
		}
	}
	maps.DeleteFunc(w.live, func(id string, _ pod.Live) bool { return !seen[id] })
	maps.DeleteFunc(w.killing, func(id string, _ bool) bool { return !seen[id] })
}

// setLive changes what is known of one attempt.
func (w *worker) setLive(id string, change func(*pod.Live)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.live[id]
	change(&l)
	w.live[id] = l
}
