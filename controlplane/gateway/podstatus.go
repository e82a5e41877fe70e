package gateway

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/ptr"

	nodev1 "coracle/proto/node/v1"
)

// podWorkers write statuses at the same time, each another pod's: a write waits for etcd's
// disk, and a hundred pods that start at once must not wait for one another.
const podWorkers = 32

// interimDelay is how long a status waits that the next one is about to replace. Most pods run within it, and what they
// are until then would be half of the writes that their start costs; it is short enough for a person who watches.
const interimDelay = 700 * time.Millisecond

// What containers wait for that have not been started yet.
const (
	reasonContainerCreating = "ContainerCreating"
	reasonPodInitializing   = "PodInitializing"
)

type podRef struct {
	namespace, name string
	uid             types.UID
}

func (r podRef) String() string { return fmt.Sprintf("pod %s/%s (%s)", r.namespace, r.name, r.uid) }

// podReport is the latest that an agent said of a pod.
type podReport struct {
	from     *session
	sequence uint64
	status   *v1.PodStatus
	released bool
	done     *atomic.Bool // it was taken into the API and acknowledged
}

func (g *Gateway) takePod(s *session, m *nodev1.PodStatus) {
	status := &v1.PodStatus{}
	if err := status.Unmarshal(m.GetStatus()); err != nil {
		g.c.Log.Warn("pod status unreadable", "node", s.node, "pod", m.GetNamespace()+"/"+m.GetName(), "err", err)
		s.ack(nodev1.StatusAck_POD, m.GetUid(), m.GetSequence()) // the same bytes would come again
		return
	}
	ref := podRef{m.GetNamespace(), m.GetName(), types.UID(m.GetUid())}
	report := podReport{from: s, sequence: m.GetSequence(), status: status, released: m.GetReleased(), done: &atomic.Bool{}}
	if interim(report) {
		g.pods.hold(ref, report, interimDelay)
		return
	}
	g.pods.put(ref, report)
}

// interim is true for what a pod is only on its way to its first container: ContainerCreating, PodInitializing.
func interim(r podReport) bool {
	if r.released || r.status.Phase != v1.PodPending {
		return false
	}
	for _, list := range [][]v1.ContainerStatus{r.status.InitContainerStatuses, r.status.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Waiting == nil || c.LastTerminationState.Terminated != nil || c.RestartCount > 0 {
				return false
			}
			if why := c.State.Waiting.Reason; why != reasonContainerCreating && why != reasonPodInitializing {
				return false
			}
		}
	}
	return len(r.status.ContainerStatuses) > 0
}

// reportPod takes the latest report of a pod into the API. An error means later again.
func (g *Gateway) reportPod(ctx context.Context, ref podRef) error {
	r, ok := g.pods.get(ref)
	if !ok {
		return nil
	}
	gone, err := g.writePod(ctx, ref, r)
	if err != nil {
		return fmt.Errorf("%s: %w", ref, err)
	}
	if r.done.CompareAndSwap(false, true) {
		r.from.ack(nodev1.StatusAck_POD, string(ref.uid), r.sequence)
	}
	if gone || g.session(r.from.node) != r.from {
		g.pods.remove(func(k podRef, v podReport) bool { return k == ref && v.done == r.done })
	}
	return nil
}

// writePod returns gone where the API has no such pod (any more).
func (g *Gateway) writePod(ctx context.Context, ref podRef, r podReport) (gone bool, err error) {
	pods := g.c.Client.CoreV1().Pods(ref.namespace)
	pod, err := g.world.pod.Pods(ref.namespace).Get(ref.name)
	if newer := g.written.newer(ref.uid, pod); newer != nil {
		pod, err = newer, nil
	}
	if err != nil || pod.UID != ref.uid || pod.Spec.NodeName != r.from.node {
		// The informer may be behind: only the API itself may say that a pod is gone.
		pod, err = pods.Get(ctx, ref.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if pod.UID != ref.uid {
			return true, nil
		}
		if pod.Spec.NodeName != r.from.node {
			g.c.Log.Warn("a node reported on a pod that is not its own", "node", r.from.node, "pod", ref.namespace+"/"+ref.name, "uid", ref.uid)
			return true, nil
		}
	}
	pod, err = g.updatePodStatus(ctx, pod, ref, r)
	if err != nil || pod == nil {
		return pod == nil && err == nil, err
	}
	if !r.released || pod.DeletionTimestamp == nil {
		return false, nil
	}
	err = pods.Delete(ctx, ref.name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0),
		Preconditions:      &metav1.Preconditions{UID: ptr.To(ref.uid)},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) && !g.stillThere(ctx, ref) {
		return true, nil
	}
	return err == nil, err
}

func (g *Gateway) stillThere(ctx context.Context, ref podRef) bool {
	pod, err := g.c.Client.CoreV1().Pods(ref.namespace).Get(ctx, ref.name, metav1.GetOptions{})
	return !apierrors.IsNotFound(err) && (err != nil || pod.UID == ref.uid)
}

// updatePodStatus writes the status if it differs. It returns the pod as it then is; nil where it is gone.
func (g *Gateway) updatePodStatus(ctx context.Context, pod *v1.Pod, ref podRef, r podReport) (*v1.Pod, error) {
	pods := g.c.Client.CoreV1().Pods(ref.namespace)
	const tries = 5
	for try := 0; ; try++ {
		merged, changed := mergePodStatus(&pod.Status, r.status)
		if !changed {
			return pod, nil
		}
		next := *pod
		next.Status = merged
		after, err := pods.UpdateStatus(ctx, &next, metav1.UpdateOptions{}) // the uid in it is a precondition
		switch {
		case err == nil:
			g.written.put(after)
			return after, nil
		case apierrors.IsNotFound(err):
			return nil, nil
		case apierrors.IsInvalid(err):
			// It will never be taken; the agent's next one may.
			g.c.Log.Error("pod status refused", "pod", ref.namespace+"/"+ref.name, "uid", ref.uid, "node", r.from.node, "err", err)
			return pod, nil
		case !apierrors.IsConflict(err) || try == tries:
			return nil, err
		}
		// Somebody else wrote and the informer has not seen it yet.
		pod, err = pods.Get(ctx, ref.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && pod.UID != ref.uid {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// written holds the pods as this gateway wrote them, until the informer has caught up. A pod
// that starts has several statuses within a moment, and a write over what the informer still
// shows would be a conflict, a read and a second write.
type written struct {
	mu   sync.Mutex
	pods map[types.UID]*v1.Pod
}

func (w *written) put(pod *v1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods[pod.UID] = pod
}

// newer returns what was written if the informer's pod, which may be nil, is older.
func (w *written) newer(uid types.UID, seen *v1.Pod) *v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := w.pods[uid]
	if pod == nil || seen != nil && seen.UID == uid && !older(seen, pod) {
		delete(w.pods, uid)
		return nil
	}
	return pod
}

// seen forgets what the informer has caught up with. The pod is gone where after is nil.
func (w *written) seen(before, after *v1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if after == nil {
		if before != nil {
			delete(w.pods, before.UID)
		}
		return
	}
	if pod := w.pods[after.UID]; pod != nil && !older(after, pod) {
		delete(w.pods, after.UID)
	}
}

// older compares two states of one object; states that cannot be compared are not older.
func older(a, b *v1.Pod) bool {
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && order < 0
}
