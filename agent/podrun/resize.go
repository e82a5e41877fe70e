package podrun

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
)

// plan asks Plan. Where the pod asks for other resources than it has, Plan is told what the node can grant, and what it
// grants is counted before anybody else is asked.
func (w *worker) plan(d pod.Desired, o pod.Observed) pod.Result {
	if d.Pod == nil || d.Removed || !pod.AsksResize(d.Pod, o.Facts) {
		return pod.Plan(d, o, time.Now())
	}
	a := &w.r.admission
	a.mu.Lock()
	defer a.mu.Unlock()
	w.r.loadBooks()
	a.books.Allocatable = w.r.cfg.Allocatable()
	d.Room = a.books.Room(w.uid)
	d.Room.Swap = w.r.cfg.Memory.SwapBytes > 0
	result := pod.Plan(d, o, time.Now())
	if w.admitted && result.Facts.Finished == "" {
		a.books.Take(pod.Granted(d.Pod, result.Facts.Allocated))
	}
	return result
}

// granted is the pod with the resources that it has here, which are not those that it asks for while a resize waits.
func (w *worker) granted() *v1.Pod { return pod.Granted(w.pod, w.facts.Allocated) }

// resizeStep executes one step of a resize and keeps why it did not succeed, for the pod's condition.
func (w *worker) resizeStep(ctx context.Context, s pod.Step) error {
	if w.facts.Resize == nil {
		return nil // given up meanwhile
	}
	generation := w.facts.Resize.Generation
	var err error
	switch s := s.(type) {
	case pod.LoosenCgroup:
		if err = w.r.cfg.Cgroups.LoosenPod(ctx, w.granted()); err == nil {
			w.loosened = generation
		}
	case pod.UpdateContainer:
		err = w.updateContainer(ctx, s)
	case pod.SettleCgroup:
		if _, err = w.r.cfg.Cgroups.EnsurePod(ctx, w.granted()); err == nil {
			w.settled = generation
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		w.resizeError = err.Error()
	} else {
		w.resizeError = ""
	}
	return err
}

func (w *worker) updateContainer(ctx context.Context, s pod.UpdateContainer) error {
	p, cfg := w.granted(), w.r.cfg
	c, _, ok := pod.FindContainer(p, s.Name)
	if !ok {
		return fmt.Errorf("container %s is not in the pod's definition", s.Name)
	}
	return cfg.Runtime.Update(ctx, s.ID, pod.ResolveResources(p, c, pod.Sources{
		Allocatable: cfg.Allocatable(), MemoryBytes: cfg.MemoryBytes, Memory: cfg.Memory,
	}))
}

// resizeEvents tells the user where a resize has come to, when that changes.
func (w *worker) resizeEvents(d pod.Desired, o pod.Observed, r pod.Result) {
	before, now := o.Facts.Resize, r.Facts.Resize
	switch {
	case now != nil && (before == nil || before.Generation != now.Generation):
		w.event(v1.EventTypeNormal, "ResizeStarted", "Pod resize started: "+resizeText(d.Pod, now.Generation, ""))
	case now == nil && before != nil && r.Facts.Finished == "":
		w.event(v1.EventTypeNormal, "ResizeCompleted", "Pod resize completed: "+resizeText(pod.Granted(d.Pod, r.Facts.Allocated), before.Generation, ""))
	}
	for _, c := range r.Status.Conditions {
		old := conditionOf(d.Previous.Conditions, c.Type)
		if old != nil && old.Reason == c.Reason && old.Message == c.Message && old.ObservedGeneration == c.ObservedGeneration {
			continue
		}
		switch {
		case c.Type == v1.PodResizePending:
			w.event(v1.EventTypeWarning, "Resize"+c.Reason, "Pod resize "+c.Reason+": "+resizeText(d.Pod, d.Pod.Generation, c.Message))
		case c.Type == v1.PodResizeInProgress && c.Reason == v1.PodReasonError:
			w.event(v1.EventTypeWarning, "ResizeError", "Pod resize error: "+resizeText(d.Pod, c.ObservedGeneration, c.Message))
		}
	}
}

func conditionOf(list []v1.PodCondition, t v1.PodConditionType) *v1.PodCondition {
	for i := range list {
		if list[i].Type == t {
			return &list[i]
		}
	}
	return nil
}

// resizeText is the resources of a pod as events show them.
func resizeText(p *v1.Pod, generation int64, problem string) string {
	type container struct {
		Name      string                  `json:"name"`
		Resources v1.ResourceRequirements `json:"resources,omitempty"`
	}
	text := struct {
		Containers     []container `json:"containers,omitempty"`
		InitContainers []container `json:"initContainers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}{Generation: generation, Error: problem}
	for _, c := range p.Spec.Containers {
		text.Containers = append(text.Containers, container{c.Name, pod.Compute(c.Resources)})
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; pod.KindOf(c) == pod.Sidecar {
			text.InitContainers = append(text.InitContainers, container{c.Name, pod.Compute(c.Resources)})
		}
	}
	data, err := json.Marshal(text)
	if err != nil {
		return problem
	}
	return string(data)
}
