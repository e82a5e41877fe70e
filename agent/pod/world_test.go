package pod

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// world is a node in memory: it executes steps on an Observed and lets containers behave as
// a script says. What must never happen makes it say so in broken.
type world struct {
	start, now time.Time
	pod        *v1.Pod // nil after a force delete that also lost the object
	removed    bool
	o          Observed
	last       v1.PodStatus
	next       Result

	// behave says what the n-th attempt of a container does; the zero value runs for ever and ends at SIGTERM.
	behave map[string]func(attempt int) behaviour
	// pulls says what the n-th pull for a container brings; nil error is success.
	pulls   map[string]func(n int) error
	pulled  map[string]int
	mounted map[string]bool // image volumes
	creates map[string]error
	// room is what the node can grant; nil: not known.
	room *Room
	// updateFails is why containers cannot be updated.
	updateFails string

	// killAfter kills the agent after that many steps; 0: never.
	killAfter, steps int

	pending []event
	trace   []string
	broken  []string
	started map[string]int // by container id: how often its process was started
}

type behaviour struct {
	exitAfter  time.Duration // 0: never by itself
	exitCode   int
	oom        bool
	ignoreTerm bool
	termAfter  time.Duration
	hookFails  bool
	hookTakes  time.Duration
	startFails string
}

type event struct {
	at   time.Time
	what func()
	id   string // of the container it belongs to
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(p *v1.Pod) *world {
	return &world{
		start: epoch, now: epoch, pod: p, behave: map[string]func(int) behaviour{}, pulls: map[string]func(int) error{},
		killAfter: nextKill,
		pulled:    map[string]int{}, mounted: map[string]bool{}, creates: map[string]error{}, started: map[string]int{},
	}
}

func newPod(containers ...v1.Container) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "1111-2222", Generation: 1},
		Spec: v1.PodSpec{
			Containers: containers, RestartPolicy: v1.RestartPolicyAlways, NodeName: "node-1",
			TerminationGracePeriodSeconds: ptr.To[int64](30),
		},
	}
}

func container(name string) v1.Container { return v1.Container{Name: name, Image: name + ":1"} }

func sidecar(name string) v1.Container {
	c := container(name)
	c.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	return c
}

func (w *world) say(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%-8s %s", "+"+w.now.Sub(w.start).String(), fmt.Sprintf(format, args...)))
}

func (w *world) fail(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf("at +%s: %s", w.now.Sub(w.start), fmt.Sprintf(format, args...)))
}

func (w *world) behaviour(name string, attempt int) behaviour {
	if f := w.behave[name]; f != nil {
		return f(attempt)
	}
	return behaviour{}
}

func (w *world) plan() Result {
	d := Desired{Pod: w.pod, Removed: w.removed, HostIPs: []string{"192.0.2.1"}, Previous: w.last, Room: w.room}
	r := Plan(d, w.observed(), w.now)
	w.o.Facts = r.Facts
	if w.pod != nil && !w.removed {
		if line := statusLine(&r.Status); line != statusLine(&w.last) {
			w.say("status: %s", line)
		}
		w.last = r.Status
	}
	w.next = r
	return r
}

// observed is a copy, so that Plan cannot change the world.
func (w *world) observed() Observed {
	o := w.o
	o.Containers = slices.Clone(w.o.Containers)
	o.Images, o.Troubles, o.VolumeImages = maps.Clone(w.o.Images), maps.Clone(w.o.Troubles), maps.Clone(w.o.VolumeImages)
	if w.o.Sandbox != nil {
		s := *w.o.Sandbox
		o.Sandbox = &s
	}
	return o
}

// settle plans and executes until there is nothing to do now.
func (w *world) settle() {
	for range 200 {
		r := w.plan()
		if len(r.Steps) == 0 {
			return
		}
		w.execute(r.Steps)
	}
	w.fail("the plan does not come to an end: %v", w.next.Steps)
}

// execute does the steps of one plan in order, leaving out those that need one that failed.
func (w *world) execute(steps []Step) {
	bad := map[int]bool{}
	for i, s := range steps {
		for j := range i {
			bad[i] = bad[i] || bad[j] && After(s, steps[j]) == Succeeded
		}
		if bad[i] {
			continue
		}
		w.say("%s", s)
		bad[i] = !w.apply(s)
		if w.steps++; w.steps == w.killAfter {
			w.restartAgent()
			return
		}
	}
}

// run lets time pass until the given moment after the start.
func (w *world) run(until time.Duration) {
	end := w.start.Add(until)
	for range 2000 {
		w.settle()
		at := end
		if t := w.next.WakeAt; !t.IsZero() && t.Before(at) {
			at = t
		}
		slices.SortStableFunc(w.pending, func(a, b event) int { return a.at.Compare(b.at) })
		if len(w.pending) > 0 && !w.pending[0].at.After(at) {
			e := w.pending[0]
			w.pending = w.pending[1:]
			w.advance(e.at)
			e.what()
			continue
		}
		if !at.Before(end) {
			w.advance(end)
			w.settle()
			return
		}
		if !at.After(w.now) {
			w.fail("asked to be woken at %s, which has passed, with nothing to do", at.Sub(w.start))
			return
		}
		w.advance(at)
	}
	w.fail("too many looks before +%s", until)
}

func (w *world) advance(t time.Time) {
	if t.After(w.now) {
		w.now = t
	}
}

func (w *world) after(d time.Duration, id string, what func()) {
	w.pending = append(w.pending, event{at: w.now.Add(d), what: what, id: id})
}

func (w *world) find(id string) *Container {
	for i := range w.o.Containers {
		if w.o.Containers[i].ID == id {
			return &w.o.Containers[i]
		}
	}
	return nil
}

func (w *world) exit(id string, code int, oom bool) {
	c := w.find(id)
	if c == nil || c.State != Running {
		return
	}
	c.State, c.ExitCode, c.FinishedAt, c.OOMKilled, c.PID = Exited, code, w.now, oom, 0
	w.say("(container %s attempt %d exits with %d)", c.Name, c.Attempt, code)
}

// restartAgent loses what only a running agent knows.
func (w *world) restartAgent() {
	w.say("(agent restarts)")
	w.o.Images, w.o.Troubles, w.o.VolumeImages = nil, nil, nil
	w.o.VolumesReady, w.o.CgroupReady = false, false
	w.o.Loosened, w.o.Settled, w.o.ResizeError = 0, 0, ""
	for i := range w.o.Containers {
		w.o.Containers[i].Live = Live{}
	}
}

// reboot ends every process and loses what is under /run.
func (w *world) reboot() {
	w.say("(machine reboots)")
	for i := range w.o.Containers {
		c := &w.o.Containers[i]
		c.EarlierBoot = true
		if c.State == Running {
			c.State, c.ExitCode, c.FinishedAt, c.Reason = Exited, unknownExit, w.now, "ContainerStatusUnknown"
		}
	}
	w.o.Network = w.o.Sandbox != nil && w.o.Sandbox.Attached
	w.o.Sandbox = nil
	w.o.Cgroup = false
	w.pending = nil
	w.restartAgent()
}

func (w *world) delete(grace int64) {
	w.say("(user deletes with %d s grace)", grace)
	w.pod = w.pod.DeepCopy()
	w.pod.DeletionTimestamp = &metav1.Time{Time: w.now.Add(time.Duration(grace) * time.Second)}
	w.pod.DeletionGracePeriodSeconds = &grace
}

func (w *world) running() []string {
	var out []string
	for _, c := range w.o.Containers {
		if c.State == Running {
			out = append(out, c.Name)
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) left() bool {
	return len(w.o.Containers) > 0 || w.o.Sandbox != nil || w.o.Volumes || w.o.Cgroup || w.o.Network
}

// statusLine is the part of a status that a person would look at.
func statusLine(s *v1.PodStatus) string {
	if s.Phase == "" {
		return ""
	}
	parts := []string{string(s.Phase)}
	if s.Reason != "" {
		parts = append(parts, s.Reason)
	}
	for _, c := range s.Conditions {
		if c.Type != v1.PodScheduled && c.Status == v1.ConditionTrue {
			parts = append(parts, string(c.Type))
		}
	}
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			parts = append(parts, containerLine(&list[i]))
		}
	}
	return strings.Join(parts, " ")
}

func containerLine(c *v1.ContainerStatus) string {
	state := "?"
	switch {
	case c.State.Running != nil:
		state = "running"
	case c.State.Waiting != nil:
		state = c.State.Waiting.Reason
	case c.State.Terminated != nil:
		state = fmt.Sprintf("%s(%d)", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
	}
	line := fmt.Sprintf("%s=%s", c.Name, state)
	if c.RestartCount > 0 {
		line += fmt.Sprintf("/%d", c.RestartCount)
	}
	if t := c.LastTerminationState.Terminated; t != nil {
		line += fmt.Sprintf("[last %s(%d)]", t.Reason, t.ExitCode)
	}
	if c.Ready {
		line += "+"
	}
	return line
}
