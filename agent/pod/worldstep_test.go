package pod

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// apply executes one step and reports whether it ended well. It checks what must hold whenever a step is executed.
func (w *world) apply(s Step) bool {
	switch s := s.(type) {
	case PullImage:
		return w.applyPull(s)
	case PinNamespaces:
		if w.o.Sandbox == nil {
			w.o.Sandbox = &Sandbox{CreatedAt: w.now, NetnsPath: "/run/ns", Attached: w.pod.Spec.HostNetwork}
			if w.pod.Spec.HostNetwork {
				w.o.Sandbox.NetnsPath = ""
			}
		}
	case AttachNetwork:
		if w.o.Sandbox == nil {
			w.fail("network attached without namespaces")
			return false
		}
		w.o.Sandbox.Attached, w.o.Sandbox.IPs = true, []string{"10.0.0.2"}
	case MountVolumes:
		w.o.Volumes, w.o.VolumesReady = true, true
	case MakeCgroup:
		w.o.Cgroup, w.o.CgroupReady = true, true
	case CreateContainer:
		return w.applyCreate(s)
	case StartContainer:
		return w.applyStart(s)
	case RunHook:
		return w.applyHook(s)
	case SignalContainer:
		w.applySignal(s)
	case RemoveContainer:
		c := w.find(s.ID)
		if c != nil && c.State == Running {
			w.fail("running container %s removed", s.ID)
		}
		w.o.Containers = slices.DeleteFunc(w.o.Containers, func(c Container) bool { return c.ID == s.ID })
	case LoosenCgroup, UpdateContainer, SettleCgroup:
		return w.applyResize(s)
	default:
		w.applyTearDown(s)
	}
	return true
}

// applyResize checks the order: the pod's group leaves room for a container before it is updated, and is settled last.
func (w *world) applyResize(s Step) bool {
	r, granted := w.o.Facts.Resize, Granted(w.pod, w.o.Facts.Allocated)
	if r == nil {
		w.fail("%s without a resize that was granted", s)
		return false
	}
	switch s := s.(type) {
	case LoosenCgroup:
		w.o.Loosened = r.Generation
	case SettleCgroup:
		for i := range w.o.Containers {
			c := &w.o.Containers[i]
			if spec, _, ok := FindContainer(granted, c.Name); ok && c.State == Running && c.Resources != nil && !sameCompute(*c.Resources, spec.Resources) {
				w.fail("%s while container %s has other resources", s, c.Name)
			}
		}
		w.o.Settled = r.Generation
	case UpdateContainer:
		c := w.find(s.ID)
		if c == nil || c.State != Running || w.o.Loosened != r.Generation {
			w.fail("%s which does not run, or before its pod's group", s)
			return false
		}
		if w.o.ResizeError = w.updateFails; w.updateFails != "" {
			return false
		}
		spec, _, _ := FindContainer(granted, s.Name)
		given := Compute(spec.Resources)
		c.Resources = &given
	}
	return true
}

func (w *world) applyTearDown(s Step) {
	if r := w.running(); len(r) > 0 {
		w.fail("%s while %v run", s, r)
	}
	switch s.(type) {
	case DetachNetwork:
		w.o.Network = false
		if w.o.Sandbox != nil {
			w.o.Sandbox.Attached = false
		}
	case RemoveNamespaces:
		if w.o.Sandbox != nil && w.o.Sandbox.Attached && w.o.Sandbox.NetnsPath != "" {
			w.fail("namespaces removed while attached")
		}
		w.o.Sandbox = nil
	case UnmountVolumes:
		w.o.Volumes, w.o.VolumesReady = false, false
	case RemoveCgroup:
		w.o.Cgroup, w.o.CgroupReady = false, false
	default:
		w.fail("unknown step %s", s)
	}
}

func (w *world) setImage(name string, im Image) {
	if w.o.Images == nil {
		w.o.Images = map[string]Image{}
	}
	w.o.Images[name] = im
}

func (w *world) applyPull(s PullImage) bool {
	if s.Volume != "" {
		return w.applyVolumePull(s)
	}
	n := w.pulled[s.Container]
	w.pulled[s.Container]++
	had := w.o.Images[s.Container]
	if f := w.pulls[s.Container]; f != nil {
		if err := f(n); err != nil {
			w.setImage(s.Container, Image{
				Ref: s.Image, Attempt: s.Attempt, State: ImageFailed, Failures: had.Failures + 1, FailedAt: w.now,
				Reason: "ErrImagePull", Message: err.Error(),
			})
			return false
		}
	}
	w.setImage(s.Container, Image{Ref: s.Image, Attempt: s.Attempt, State: ImagePresent})
	return true
}

// applyVolumePull: pulls of a volume are scripted under "volume NAME"; what this pod has mounted once needs no registry.
func (w *world) applyVolumePull(s PullImage) bool {
	key := "volume " + s.Volume
	n := w.pulled[key]
	w.pulled[key]++
	if w.o.VolumeImages == nil {
		w.o.VolumeImages = map[string]Image{}
	}
	if f := w.pulls[key]; f != nil && !w.mounted[s.Volume] {
		if err := f(n); err != nil {
			w.o.VolumeImages[s.Volume] = Image{
				Ref: s.Image, State: ImageFailed, Failures: w.o.VolumeImages[s.Volume].Failures + 1, FailedAt: w.now,
				Reason: "ErrImagePull", Message: err.Error(),
			}
			return false
		}
	}
	w.o.VolumeImages[s.Volume] = Image{Ref: s.Image, State: ImagePresent, ImageID: s.Image + "@sha256:1"}
	w.mounted[s.Volume], w.o.VolumesReady = true, false // there is more to mount now
	return true
}

func (w *world) applyCreate(s CreateContainer) bool {
	if c, _, ok := FindContainer(w.pod, s.Name); ok {
		for _, m := range c.VolumeMounts {
			if imageVolume(w.pod, m.Name) != nil && (!w.mounted[m.Name] || !w.o.VolumesReady) {
				w.fail("container %s created before the image of volume %s is mounted", s.Name, m.Name)
			}
		}
	}
	for _, c := range w.o.Containers {
		if c.Name != s.Name {
			continue
		}
		if c.State == Running {
			w.fail("%s created while attempt %d runs", s, c.Attempt)
		}
		if c.Attempt >= s.Attempt && c.State != Created {
			w.fail("%s although attempt %d exists", s, c.Attempt)
		}
	}
	if w.o.Sandbox == nil || s.NeedsIP && !w.o.Sandbox.Attached || !w.o.VolumesReady || !w.o.CgroupReady {
		w.fail("%s before the pod was prepared", s)
	}
	im := w.o.Images[s.Name]
	spec, kind, ok := FindContainer(w.pod, s.Name)
	if !ok || kind != s.Kind {
		w.fail("%s is not in the spec", s)
		return false
	}
	if im.State != ImagePresent || im.Ref != spec.Image {
		w.fail("%s without its image", s)
	}
	if err := w.creates[s.Name]; err != nil {
		w.trouble(s.Name, s.Attempt, "CreateContainerConfigError", err.Error())
		return false
	}
	id := "c-" + s.Name + "-" + string(rune('0'+s.Attempt%10)) + string(rune('a'+s.Attempt/10))
	if w.find(id) == nil {
		granted, _, _ := FindContainer(Granted(w.pod, w.o.Facts.Allocated), s.Name)
		var given *v1.ResourceRequirements
		if r := Compute(granted.Resources); len(r.Requests)+len(r.Limits) > 0 {
			given = &r
		}
		w.o.Containers = append(w.o.Containers, Container{Resources: given,
			ID: id, Name: s.Name, Kind: s.Kind, Attempt: s.Attempt, Fingerprint: Fingerprint(spec), Image: spec.Image,
			ImageID: spec.Image + "@sha256:1", CreatedAt: w.now,
		})
	}
	return true
}

func (w *world) trouble(name string, attempt int, reason, message string) {
	if w.o.Troubles == nil {
		w.o.Troubles = map[string]Trouble{}
	}
	t := w.o.Troubles[name]
	if t.Attempt != attempt {
		t = Trouble{Attempt: attempt}
	}
	t.Count++
	t.At, t.Reason, t.Message = w.now, reason, message
	w.o.Troubles[name] = t
}

func (w *world) applyStart(s StartContainer) bool {
	var c *Container
	for i := range w.o.Containers {
		if have := &w.o.Containers[i]; have.Name == s.Name && have.Attempt == s.Attempt {
			c = have
		} else if have.Name == s.Name && have.State == Running {
			w.fail("%s while attempt %d runs", s, have.Attempt)
		}
	}
	if c == nil {
		w.fail("%s does not exist", s)
		return false
	}
	if c.State != Created {
		w.fail("%s which is no longer Created", s)
		return false
	}
	if w.o.Sandbox == nil || !w.o.Sandbox.Attached {
		w.fail("%s before the pod has its network", s)
	}
	w.started[c.ID]++
	b := w.behaviour(c.Name, c.Attempt)
	if b.startFails != "" {
		c.State, c.ExitCode, c.Reason, c.Message, c.FinishedAt = Exited, 128, "StartError", b.startFails, w.now
		return false
	}
	c.State, c.StartedAt, c.PID = Running, w.now, 100
	id := c.ID
	if b.exitAfter > 0 {
		w.after(b.exitAfter, id, func() { w.exit(id, b.exitCode, b.oom) })
	}
	return true
}

func (w *world) applyHook(s RunHook) bool {
	c := w.find(s.ID)
	if c == nil || c.State != Running {
		w.fail("%s which does not run", s)
		return false
	}
	b := w.behaviour(c.Name, c.Attempt)
	set := func(st HookState) {
		c := w.find(s.ID)
		if c == nil {
			return
		}
		if s.Hook == PostStart {
			c.Live.PostStart = st
		} else {
			c.Live.PreStop = st
		}
	}
	end := HookDone
	if b.hookFails {
		end = HookFailed
	}
	if b.hookTakes == 0 {
		set(end)
		return true
	}
	set(HookRunning)
	w.after(b.hookTakes, s.ID, func() { set(end) })
	return true
}

func (w *world) applySignal(s SignalContainer) {
	c := w.find(s.ID)
	if c == nil || c.State != Running {
		w.fail("%s which does not run", s)
		return
	}
	b := w.behaviour(c.Name, c.Attempt)
	id := c.ID
	if s.Signal == "SIGKILL" {
		c.Live.KillAt = w.now
		w.after(time.Millisecond, id, func() { w.exit(id, 137, false) })
		return
	}
	c.Live.TermAt = w.now
	if !b.ignoreTerm {
		w.after(max(b.termAfter, time.Millisecond), id, func() { w.exit(id, 143, false) })
	}
}
