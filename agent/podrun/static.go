package podrun

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/store"
)

// isMirror says that the object only shows a pod of the node's own files: it is not run.
func isMirror(p *v1.Pod) bool {
	_, mirror := p.Annotations[v1.MirrorPodAnnotationKey]
	return mirror
}

// ending is a pod whose file is gone. It is ended as one that a user has deleted.
func (w *worker) ending() *v1.Pod {
	if w.pod.DeletionTimestamp == nil {
		p := w.pod.DeepCopy()
		grace := int64(v1.DefaultTerminationGracePeriodSeconds)
		if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
			grace = *s
		}
		p.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second)}
		p.DeletionGracePeriodSeconds = &grace
		w.setPod(p)
	}
	return w.pod
}

// mirror is the object by which the API shows a pod of the node's own files; empty: none yet.
func (w *worker) mirror() (uid types.UID, status v1.PodStatus) {
	for _, o := range w.r.cfg.Store.Objects(store.KindPod) {
		if o.Local || o.Name != w.pod.Name || o.Namespace != w.pod.Namespace {
			continue
		}
		if p, ok := w.r.cfg.Store.Pod(types.UID(o.UID)); ok && p.Annotations[v1.MirrorPodAnnotationKey] == string(w.uid) {
			return p.UID, p.Status
		}
	}
	return "", v1.PodStatus{}
}

// sayStatic reports a pod of the node's own files: to the node's own memory, and for its mirror pod to the API.
func (w *worker) sayStatic(status v1.PodStatus) {
	w.r.cfg.Outbox.SetLocalPod(w.uid, w.pod.Namespace, w.pod.Name, status)
	if uid, _ := w.mirror(); uid != "" {
		w.r.cfg.Outbox.SetPod(uid, w.pod.Namespace, w.pod.Name, status, false)
	}
}

// samePodWait is how often a changed pod of the node's own files looks whether the one before it is gone.
const samePodWait = 500 * time.Millisecond

// predecessor says whether an older pod of this name is still being taken down: ports and paths of the machine are the same.
func (w *worker) predecessor() bool {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	for uid, other := range w.r.workers {
		if uid != w.uid && other.holdsName(w.pod.Namespace, w.pod.Name) {
			return true
		}
	}
	return false
}

func (w *worker) holdsName(namespace, name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view.Name == name && w.view.Namespace == namespace && !pod.Final(w.view.Phase)
}
