package podrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/cni"
	"coracle/agent/pod"
	"coracle/agent/runtime"
	"coracle/agent/volume"
)

// do executes one step. Every one is idempotent: the doors are.
func (r *round) do(ctx context.Context, s pod.Step) error {
	w, doors := r.w, r.w.r.cfg
	switch s := s.(type) {
	case pod.PullImage:
		return w.pull(ctx, s)
	case pod.PinNamespaces:
		return w.sandboxEvent(r.pin(ctx))
	case pod.AttachNetwork:
		return w.sandboxEvent(r.attach(ctx))
	case pod.MakeCgroup:
		parent, err := doors.Cgroups.EnsurePod(ctx, w.granted())
		if err != nil {
			w.event(v1.EventTypeWarning, "FailedCreatePodContainer", fmt.Sprintf("unable to ensure pod container exists: %s", err))
			return err
		}
		w.cgroupParent = parent
	case pod.MountVolumes:
		return w.mount(ctx)
	case pod.CreateContainer:
		return r.create(ctx, s)
	case pod.StartContainer:
		return r.startContainer(ctx, s)
	case pod.RunHook:
		w.runHook(ctx, s, r.observed)
		return nil
	case pod.SignalContainer:
		return w.signal(ctx, s)
	case pod.RemoveContainer:
		return w.remove(ctx, s)
	case pod.DetachNetwork:
		return w.killEvent(doors.Network.Detach(ctx, w.uid, r.namespace(), r.name(), r.netns()))
	case pod.RemoveNamespaces:
		return w.killEvent(doors.Runtime.RemoveSandbox(ctx, w.uid))
	case pod.UnmountVolumes:
		w.volumes = nil
		return doors.Volumes.Remove(ctx, w.uid)
	case pod.LoosenCgroup, pod.UpdateContainer, pod.SettleCgroup:
		return w.resizeStep(ctx, s)
	case pod.RemoveCgroup:
		w.cgroupParent = ""
		return doors.Cgroups.RemovePod(ctx, w.uid)
	default:
		return fmt.Errorf("step %T is not known to this executor", s)
	}
	return nil
}

func (r *round) namespace() string {
	if r.w.pod != nil {
		return r.w.pod.Namespace
	}
	return cmp.Or(r.observed.Namespace, r.observed.Facts.Namespace)
}

func (r *round) name() string {
	if r.w.pod != nil {
		return r.w.pod.Name
	}
	return cmp.Or(r.observed.Name, r.observed.Facts.Name)
}

func (r *round) netns() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandbox == nil {
		return ""
	}
	return r.sandbox.NetnsPath
}

func (r *round) pin(ctx context.Context) error {
	p := r.w.pod
	hostname, _, err := pod.Hostname(p, r.w.r.cfg.NodeName, r.w.r.cfg.ClusterDomain())
	if err != nil {
		return err
	}
	spec := runtime.SandboxSpec{
		UID: p.UID, Namespace: p.Namespace, Name: p.Name, Hostname: hostname,
		HostNetwork: p.Spec.HostNetwork, HostIPC: p.Spec.HostIPC, HostPID: p.Spec.HostPID,
		ShareProcessNamespace: p.Spec.ShareProcessNamespace != nil && *p.Spec.ShareProcessNamespace,
		CgroupParent:          r.w.cgroupParent,
		OwnUsers:              p.Spec.HostUsers != nil && !*p.Spec.HostUsers,
	}
	if spec.Handler, err = r.w.handler(); err != nil && r.observed.Sandbox == nil {
		return err // a class that is gone matters to new sandboxes alone
	}
	if sc := p.Spec.SecurityContext; sc != nil && len(sc.Sysctls) > 0 {
		spec.Sysctls = map[string]string{}
		for _, s := range sc.Sysctls {
			spec.Sysctls[s.Name] = s.Value
		}
	}
	if r.netns() == "" && len(r.observed.Containers) > 0 && !p.Spec.HostNetwork {
		r.w.event(v1.EventTypeNormal, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	sandbox, err := r.w.r.cfg.Runtime.EnsureSandbox(ctx, spec)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandbox == nil || r.sandbox.NetnsPath != sandbox.NetnsPath {
		r.sandbox = sandbox
	}
	return nil
}

func (r *round) attach(ctx context.Context) error {
	release, err := r.start(ctx)
	if err != nil {
		return err
	}
	defer release()
	p := r.w.pod
	a := cni.Attachment{UID: p.UID, Namespace: p.Namespace, Name: p.Name, NetnsPath: r.netns(), Annotations: p.Annotations}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			a.Ports = append(a.Ports, list[i].Ports...)
		}
	}
	result, err := r.w.r.cfg.Network.Attach(ctx, a)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandbox != nil {
		s := *r.sandbox
		s.Attached, s.IPs = true, result.IPs
		r.sandbox = &s
	}
	return nil
}

// handler is what the pod's RuntimeClass names; empty for a pod without one.
func (w *worker) handler() (string, error) {
	name := w.pod.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return "", nil
	}
	class, ok := w.r.cfg.Store.RuntimeClass(*name)
	if !ok {
		return "", fmt.Errorf("failed to get sandbox runtime: RuntimeClass.node.k8s.io %q not found", *name)
	}
	return class.Handler, nil
}

// killEvent tells the user why the pod's sandbox does not go.
func (w *worker) killEvent(err error) error {
	if err != nil {
		w.event(v1.EventTypeWarning, "FailedKillPod", fmt.Sprintf("error killing pod: %s", err))
	}
	return err
}

// sandboxEvent tells the user why the pod's sandbox is not there.
func (w *worker) sandboxEvent(err error) error {
	if err != nil {
		w.event(v1.EventTypeWarning, "FailedCreatePodSandBox", fmt.Sprintf("Failed to create pod sandbox: %s", err))
	}
	return err
}

func (w *worker) volumeRequest() volume.Request {
	c := w.r.cfg
	return volume.Request{Pod: w.pod, ConfigMap: c.Store.ConfigMap, Secret: c.Store.Secret, Token: c.Token, Image: w.showImage, Allocatable: c.Allocatable()}
}

// mount makes all volumes, and sets when their content is to be looked at again.
func (w *worker) mount(ctx context.Context) error {
	p := w.pod
	result, err := w.r.cfg.Volumes.Ensure(ctx, w.volumeRequest())
	if err != nil {
		w.mountEvents(err)
		return err
	}
	w.volumes, w.volumesFor = result.Paths, p.ResourceVersion
	w.refreshAt = result.RefreshAt
	w.warn(result.Warnings)
	return nil
}

// mountEvents tells the user of each volume that could not be made.
func (w *worker) mountEvents(err error) {
	list := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	for _, err := range list {
		w.event(v1.EventTypeWarning, "FailedMount", err.Error())
	}
}

// refreshRetry is when content that could not be brought up to date is tried again.
const refreshRetry = time.Minute

// refresh brings the content of volumes up to date when that is due: a ConfigMap or Secret
// changed, or a token nears its end. It returns when it is due next.
func (w *worker) refresh(ctx context.Context, d pod.Desired) time.Time {
	if w.volumes == nil || d.Removed || d.Pod == nil || w.facts.Finished != "" {
		return time.Time{}
	}
	now := time.Now()
	changed := w.volumesFor != d.Pod.ResourceVersion && d.Pod.DeletionTimestamp == nil
	if !changed && (w.refreshAt.IsZero() || now.Before(w.refreshAt)) {
		return w.refreshAt
	}
	result, err := w.r.cfg.Volumes.Ensure(ctx, w.volumeRequest())
	w.volumesFor = d.Pod.ResourceVersion
	switch {
	case ctx.Err() != nil:
		return time.Time{}
	case err != nil:
		w.mountEvents(err)
		w.refreshAt = now.Add(jitter(refreshRetry))
	case len(result.Warnings) > 0:
		w.refreshAt = earliest(result.RefreshAt, now.Add(jitter(refreshRetry)))
		w.warn(result.Warnings)
	default:
		w.refreshAt = result.RefreshAt
	}
	if err == nil {
		w.volumes = result.Paths
	}
	return w.refreshAt
}

func (w *worker) warn(list []error) {
	for _, err := range list {
		if text := err.Error(); text != w.lastErr {
			w.lastErr = text
			w.log.Warn("volume content left as it was", "err", err)
			var setup *volume.SetupError
			if errors.As(err, &setup) {
				w.mountEvents(err)
			}
		}
	}
}

func (w *worker) signal(ctx context.Context, s pod.SignalContainer) error {
	w.announceEnd(s.ID, s.Name)
	if err := w.r.cfg.Runtime.Signal(ctx, s.ID, s.Signal); err != nil {
		return err
	}
	w.setLive(s.ID, func(l *pod.Live) {
		if s.Signal == "" {
			l.TermAt = time.Now()
		} else {
			l.KillAt = time.Now()
		}
	})
	return nil
}

func (w *worker) remove(ctx context.Context, s pod.RemoveContainer) error {
	// The container goes last: while it is there, an agent that was killed in between comes back to the rest.
	if err := w.removeAttemptLogs(s.Name, s.Attempt); err != nil {
		return err
	}
	if err := w.r.cfg.Volumes.RemoveAttempt(w.uid, s.Name, s.Attempt); err != nil {
		return err
	}
	return w.r.cfg.Runtime.Remove(ctx, s.ID)
}
