package podrun

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/image"
	"coracle/agent/pod"
	"coracle/internal/fault"
)

// job starts f beside the worker, unless one of that name is under way. It ends with the worker
// at the latest, and wakes it when it ends.
func (w *worker) job(ctx context.Context, name string, f func(ctx context.Context)) (started bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.jobs[name] != nil {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	w.jobs[name] = cancel
	w.jobsDone.Go(func() {
		defer w.wake(causeOther)
		defer func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			cancel()
			delete(w.jobs, name)
		}()
		f(ctx)
	})
	return true
}

// cancelJobs ends the jobs whose name has the prefix.
func (w *worker) cancelJobs(prefix string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, cancel := range w.jobs {
		if strings.HasPrefix(name, prefix) {
			cancel()
		}
	}
}

const pullJob = "pull "

// pullPatience is how long a round waits for a pull, so that a container whose image is
// present is created in the same round. A longer pull goes on beside the worker.
const pullPatience = 300 * time.Millisecond

// pull makes an image present. It is left to itself when it takes long.
func (w *worker) pull(ctx context.Context, s pod.PullImage) error {
	done := make(chan error, 1)
	w.setImage(s, func(im *pod.Image) {
		if im.Ref != s.Image {
			*im = pod.Image{}
		}
		im.Ref, im.Attempt, im.State = s.Image, s.Attempt, pod.ImagePulling
	})
	started := w.job(ctx, pullJob+s.Volume+"/"+s.Container, func(ctx context.Context) { done <- w.pullNow(ctx, s) })
	if !started {
		return errLater
	}
	patience := time.NewTimer(pullPatience)
	defer patience.Stop()
	select {
	case err := <-done:
		return err
	case <-patience.C:
	case <-ctx.Done():
	}
	return errLater
}

func (w *worker) setImage(s pod.PullImage, change func(*pod.Image)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Volume != "" {
		v := w.shown[s.Volume]
		change(&v.Image)
		w.shown[s.Volume] = v
		return
	}
	im := w.images[s.Container]
	change(&im)
	w.images[s.Container] = im
}

// pullNow pulls and keeps the outcome for Plan, which decides when to try again.
func (w *worker) pullNow(ctx context.Context, s pod.PullImage) error {
	if s.Volume != "" && w.showsAlready(ctx, s) {
		return nil
	}
	began, pulling := time.Now(), time.Time{}
	done := make(chan struct{})
	defer close(done)
	img, err := w.r.cfg.Images.Ensure(ctx, image.Request{
		Ref: s.Image, Policy: s.Policy, Credentials: w.credentials(),
		OnPull: func() {
			pulling = time.Now()
			w.imageEvent(s, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", s.Image))
			w.tellProgress(ctx, s, done)
		},
	})
	if ctx.Err() != nil {
		w.setImage(s, func(im *pod.Image) { im.State = pod.ImageUnknown })
		return errLater
	}
	if err != nil && w.useCopy(ctx, s, err) {
		return nil
	}
	if err != nil {
		w.pullFailed(s, err)
		return errLater
	}
	w.pulled(s, img)
	message := fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", s.Image)
	if !pulling.IsZero() {
		message = fmt.Sprintf("Successfully pulled image %q in %s (%s including waiting). Image size: %d bytes.", s.Image,
			time.Since(pulling).Round(time.Millisecond), time.Since(began).Round(time.Millisecond), img.Size)
	}
	w.imageEvent(s, v1.EventTypeNormal, "Pulled", message)
	return nil
}

// pulled notes that the image is there.
func (w *worker) pulled(s pod.PullImage, img image.Image) {
	w.setImage(s, func(im *pod.Image) {
		*im = pod.Image{Ref: s.Image, Attempt: s.Attempt, State: pod.ImagePresent}
	})
	if s.Volume != "" {
		w.willShow(s.Volume, img)
	}
}

// imageEvent tells of a container's image on the container, and of a volume's on the pod.
func (w *worker) imageEvent(s pod.PullImage, eventType, reason, message string) {
	if s.Volume != "" {
		w.event(eventType, reason, message)
		return
	}
	w.containerEvent(s.Container, w.kindOf(s.Container), eventType, reason, message)
}

// useCopy takes the copy on this machine for a restart whose registry cannot be reached.
//
// Differs: Kubernetes leaves a container with imagePullPolicy Always down until its registry
// answers. Here a node that boots without a network must start its pods again, and this pod has
// run this very image on this node before, so nothing is shown to it that it had not.
func (w *worker) useCopy(ctx context.Context, s pod.PullImage, cause error) bool {
	if s.Attempt == 0 || s.Policy != v1.PullAlways || !errors.Is(cause, fault.ErrUnavailable) {
		return false
	}
	if _, err := w.r.cfg.Images.Ensure(ctx, image.Request{Ref: s.Image, Policy: v1.PullNever}); err != nil {
		return false
	}
	w.pulled(s, image.Image{})
	w.imageEvent(s, v1.EventTypeWarning, "Pulled",
		fmt.Sprintf("Registry of image %q is not reachable, using the copy on this machine: %s", s.Image, cause))
	return true
}

func (w *worker) pullFailed(s pod.PullImage, err error) {
	reason, message, event := image.ReasonOf(err), err.Error(), "Failed"
	told := fmt.Sprintf("Failed to pull image %q: %s", s.Image, err)
	switch reason { // in Kubernetes' words, which people and programs look for
	case image.ReasonNeverPull:
		message, event = fmt.Sprintf("Container image %q is not present with pull policy of Never", s.Image), string(reason)
		told = message
	case image.ReasonInvalidName:
		message, event = fmt.Sprintf("Failed to apply default image tag %q: %s", s.Image, err), "InspectFailed"
		told = message
	case image.ReasonInspect:
		message, event = fmt.Sprintf("Failed to inspect image %q: %s", s.Image, err), "InspectFailed"
		told = message
	}
	first := false
	w.setImage(s, func(im *pod.Image) {
		first = im.Message != message
		im.State, im.FailedAt, im.Reason, im.Message = pod.ImageFailed, time.Now(), string(reason), message
		im.Failures++
	})
	if first {
		w.log.Warn("image not pulled", "container", s.Container, "volume", s.Volume, "image", s.Image, "err", err)
		w.note(fmt.Errorf("image %s: %w", s.Image, err))
	}
	w.imageEvent(s, v1.EventTypeWarning, event, told)
	w.imageEvent(s, v1.EventTypeWarning, "Failed", "Error: "+string(reason))
}

// credentials are those of the pod's pull secrets. One that is missing or broken is said so and left out.
func (w *worker) credentials() []image.Credential {
	p := w.current()
	var out []image.Credential
	for _, ref := range p.Spec.ImagePullSecrets {
		s, ok := w.r.cfg.Store.Secret(p.Namespace, ref.Name)
		if !ok {
			w.event(v1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
				fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", ref.Name))
			continue
		}
		list, err := image.ParseDockerConfig(s)
		if err != nil {
			w.event(v1.EventTypeWarning, "FailedToRetrieveImagePullSecret", fmt.Sprintf("Image pull secret %s is not usable: %s", ref.Name, err))
			continue
		}
		out = append(out, list...)
	}
	return out
}

const hookJob = "hook "

// runHook runs a lifecycle hook beside the worker.
func (w *worker) runHook(ctx context.Context, s pod.RunHook, o pod.Observed) {
	c, kind, ok := pod.FindContainer(w.pod, s.Name)
	if !ok || c.Lifecycle == nil {
		return
	}
	handler, set := c.Lifecycle.PostStart, func(l *pod.Live, st pod.HookState) { l.PostStart = st }
	failed, deadline := "FailedPostStartHook", time.Time{}
	if s.Hook == pod.PreStop {
		handler, set = c.Lifecycle.PreStop, func(l *pod.Live, st pod.HookState) { l.PreStop = st }
		failed = "FailedPreStopHook"
		deadline = w.stopDeadline(s.Name, attemptOf(o, s.ID))
		w.announceEnd(s.ID, s.Name)
	}
	if handler == nil {
		return
	}
	ips := w.hookIPs(o)
	w.setLive(s.ID, func(l *pod.Live) { set(l, pod.HookRunning) })
	w.job(ctx, hookJob+string(s.Hook)+" "+s.ID, func(ctx context.Context) {
		if !deadline.IsZero() {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline)
			defer cancel()
		}
		err := runHandler(ctx, handler, hookTarget{runtime: w.r.cfg.Runtime, id: s.ID, container: c, ips: ips})
		state := pod.HookDone
		if err != nil {
			state = pod.HookFailed
			if !errors.Is(err, context.Canceled) {
				w.log.Warn("hook failed", "container", s.Name, "hook", string(s.Hook), "err", err)
				w.containerEvent(s.Name, kind, v1.EventTypeWarning, failed, fmt.Sprintf("%sHook failed: %s", strings.ToUpper(string(s.Hook[0]))+string(s.Hook[1:]), err))
			}
		}
		w.setLive(s.ID, func(l *pod.Live) { set(l, state) })
	})
}

// stopDeadline is when this attempt of the container is killed: its hook must have ended by then.
func (w *worker) stopDeadline(container string, attempt int) time.Time {
	var t time.Time
	if s := w.facts.Containers[container].Stop; s != nil && s.Attempt == attempt {
		t = s.Deadline
	}
	if s := w.facts.Stop; s != nil {
		t = earliest(t, s.Deadline)
	}
	return t
}

// attemptOf is the number of the attempt with this id, or -1.
func attemptOf(o pod.Observed, id string) int {
	for i := range o.Containers {
		if o.Containers[i].ID == id {
			return o.Containers[i].Attempt
		}
	}
	return -1
}

func (w *worker) hookIPs(o pod.Observed) []string {
	if o.Sandbox != nil && len(o.Sandbox.IPs) > 0 {
		return o.Sandbox.IPs
	}
	return w.r.cfg.HostIPs()
}
