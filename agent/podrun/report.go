package podrun

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/probe"
)

// PodView is what `coracle-agent status` shows of a pod.
type PodView struct {
	UID        types.UID       `json:"uid"`
	Namespace  string          `json:"namespace,omitempty"`
	Name       string          `json:"name,omitempty"`
	Phase      v1.PodPhase     `json:"phase,omitempty"`
	Ready      bool            `json:"ready"`
	Removing   bool            `json:"removing,omitempty"`
	PodIP      string          `json:"podIP,omitempty"`
	Containers []ContainerView `json:"containers,omitempty"`
	Steps      []string        `json:"steps,omitempty"` // being executed
	Error      string          `json:"error,omitempty"` // the last one
	ErrorAt    *time.Time      `json:"errorAt,omitempty"`
}

// ContainerView is one container of a PodView.
type ContainerView struct {
	Name     string `json:"name"`
	State    string `json:"state"` // running, or the reason why not
	Ready    bool   `json:"ready"`
	Restarts int32  `json:"restarts"`
}

func (w *worker) snapshot() PodView {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

func (w *worker) setPlan(steps []pod.Step) {
	var list []string
	for _, s := range steps {
		list = append(list, s.String())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view.Steps = list
}

// note keeps an error for Snapshot.
func (w *worker) note(err error) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view.Error, w.view.ErrorAt = err.Error(), &now
}

// current is the pod for jobs, which run beside the worker.
func (w *worker) current() *v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shared
}

// report tells the control plane, the prober and Snapshot what the plan says.
func (w *worker) report(ctx context.Context, d pod.Desired, o pod.Observed, r pod.Result) {
	w.showDevices(&r.Status)
	w.show(d, o, r)
	if d.Removed || d.Pod == nil {
		w.cancelJobs(pullJob)
		w.probe(o, nil)
		return
	}
	if d.Pod.DeletionTimestamp != nil {
		w.cancelJobs(pullJob)
	}
	w.waitingEvents(d.Previous, r.Status)
	w.timeStart(d.Previous.Phase, r.Status.Phase, &r.Facts)
	w.resizeEvents(d, o, r)
	if f := r.Facts.Failed; f != nil && o.Facts.Failed == nil {
		w.event(f.Event())
	}
	if pod.Static(d.Pod) {
		w.sayStatic(r.Status)
	} else {
		w.r.cfg.Outbox.SetPod(w.uid, d.Pod.Namespace, d.Pod.Name, r.Status, r.Released)
	}
	w.probe(o, r.Probes)
}

// showDevices says which devices the containers have, and how they are.
func (w *worker) showDevices(s *v1.PodStatus) {
	if w.r.cfg.Devices == nil {
		return
	}
	health := w.r.cfg.Devices.Health(w.uid)
	if health == nil {
		return
	}
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			list[i].AllocatedResourcesStatus = health[list[i].Name]
		}
	}
}

func (w *worker) probe(o pod.Observed, targets []pod.ProbeTarget) {
	ip := ""
	if ips := w.hookIPs(o); len(ips) > 0 {
		ip = ips[0]
	}
	w.r.probes.SetTargets(w.uid, ip, targets)
}

// probed tells the user about one probing that did not simply pass.
func (r *Runner) probed(uid types.UID, t pod.ProbeTarget, o probe.Outcome, message string) {
	w := r.find(uid)
	if w == nil {
		return
	}
	reason, what := "Unhealthy", "failed"
	switch o {
	case probe.Errored:
		what = "errored and resulted in unknown state"
	case probe.Warned:
		reason, what = "ProbeWarning", "warning"
	}
	kind := string(t.Kind)
	w.containerEvent(t.Container, w.kindOf(t.Container), v1.EventTypeWarning, reason,
		fmt.Sprintf("%s probe %s: %s", strings.ToUpper(kind[:1])+kind[1:], what, message))
}

func (w *worker) show(d pod.Desired, o pod.Observed, r pod.Result) {
	v := PodView{UID: w.uid, Removing: d.Removed, Phase: r.Status.Phase, PodIP: r.Status.PodIP}
	for _, c := range r.Status.Conditions {
		if c.Type == v1.PodReady {
			v.Ready = c.Status == v1.ConditionTrue
		}
	}
	for _, list := range [][]v1.ContainerStatus{r.Status.InitContainerStatuses, r.Status.ContainerStatuses, r.Status.EphemeralContainerStatuses} {
		for i := range list {
			c := &list[i]
			v.Containers = append(v.Containers, ContainerView{Name: c.Name, State: stateWord(c), Ready: c.Ready, Restarts: c.RestartCount})
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	v.Namespace, v.Name = cmp.Or(w.view.Namespace, o.Namespace), cmp.Or(w.view.Name, o.Name)
	v.Steps, v.Error, v.ErrorAt = w.view.Steps, w.view.Error, w.view.ErrorAt
	w.view = v
}

func stateWord(c *v1.ContainerStatus) string {
	switch {
	case c.State.Running != nil:
		return "running"
	case c.State.Waiting != nil:
		return c.State.Waiting.Reason
	case c.State.Terminated != nil:
		return c.State.Terminated.Reason
	}
	return "unknown"
}

// waitingEvents says so when a container has begun to wait out a failure.
func (w *worker) waitingEvents(before, now v1.PodStatus) {
	reasons := map[string]string{}
	each := func(s *v1.PodStatus, f func(kind pod.Kind, c *v1.ContainerStatus)) {
		for i := range s.InitContainerStatuses {
			f(pod.Init, &s.InitContainerStatuses[i])
		}
		for i := range s.ContainerStatuses {
			f(pod.Main, &s.ContainerStatuses[i])
		}
	}
	each(&before, func(_ pod.Kind, c *v1.ContainerStatus) {
		if c.State.Waiting != nil {
			reasons[c.Name] = c.State.Waiting.Reason
		}
	})
	each(&now, func(kind pod.Kind, c *v1.ContainerStatus) {
		wait := c.State.Waiting
		if wait == nil || wait.Reason == reasons[c.Name] {
			return
		}
		switch wait.Reason {
		case "CrashLoopBackOff":
			w.containerEvent(c.Name, kind, v1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)",
				c.Name, w.pod.Name, w.pod.Namespace, w.pod.UID))
		case "ImagePullBackOff":
			w.containerEvent(c.Name, kind, v1.EventTypeNormal, "BackOff", fmt.Sprintf("Back-off pulling image %q", c.Image))
			w.containerEvent(c.Name, kind, v1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
		}
	})
}

// announceEnd says once for each attempt why it is being ended.
func (w *worker) announceEnd(id, name string) {
	w.mu.Lock()
	said := w.killing[id]
	w.killing[id] = true
	w.mu.Unlock()
	if said {
		return
	}
	message := "Stopping container " + name
	if s := w.facts.Containers[name].Stop; s != nil && w.facts.Stop == nil && w.pod != nil {
		message = pod.StopMessage(w.pod, name, s.Reason)
	}
	w.containerEvent(name, w.kindOf(name), v1.EventTypeNormal, "Killing", message)
}

func (w *worker) kindOf(name string) pod.Kind {
	if p := w.current(); p != nil {
		if _, kind, ok := pod.FindContainer(p, name); ok {
			return kind
		}
	}
	return pod.Main
}

func (w *worker) reference() (ref v1.ObjectReference, ok bool) {
	p := w.current()
	if p == nil {
		return ref, false
	}
	return v1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}, true
}

// event tells the user about the pod; one of an earlier life that nobody assigned has no user.
func (w *worker) event(eventType, reason, message string) {
	if ref, ok := w.reference(); ok {
		w.r.cfg.Events.Event(ref, eventType, reason, message)
	}
}

func (w *worker) containerEvent(name string, kind pod.Kind, eventType, reason, message string) {
	ref, ok := w.reference()
	if !ok {
		return
	}
	list := "containers"
	switch kind {
	case pod.Init, pod.Sidecar:
		list = "initContainers"
	case pod.Ephemeral:
		list = "ephemeralContainers"
	}
	ref.FieldPath = fmt.Sprintf("spec.%s{%s}", list, name)
	w.r.cfg.Events.Event(ref, eventType, reason, message)
}
