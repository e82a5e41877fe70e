package nodelifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/controlplane/controller/index"
	"coracle/controlplane/controller/loop"
)

const evictWorkers = 8

// evictions is the part of the controller that deletes pods from nodes with NoExecute taints.
type evictions struct {
	c     *Controller
	queue *loop.Loop[types.NamespacedName]

	mu    sync.Mutex
	since map[seenTaint]time.Time // first seen, for taints that do not say when they were added
}

type seenTaint struct{ node, key, value string }

func (e *evictions) startEvictions(c *Controller) {
	e.c, e.since = c, map[seenTaint]time.Time{}
	e.queue = loop.New("taint-eviction", c.env.Log, e.evict)
}

func (e *evictions) runEvictions(ctx context.Context) error {
	return e.queue.Run(ctx, evictWorkers,
		loop.Watch{Informer: e.c.nodes, Handler: loop.On(func(n *corev1.Node) { e.taintsChanged(nil, n) }, e.taintsChanged, e.nodeGone)},
		loop.Watch{Informer: e.c.pods, Handler: loop.On(e.podSeen, func(before, after *corev1.Pod) {
			if before.Spec.NodeName != after.Spec.NodeName || !slices.EqualFunc(before.Spec.Tolerations, after.Spec.Tolerations, sameToleration) {
				e.podSeen(after)
			}
		}, nil)})
}

func sameToleration(a, b corev1.Toleration) bool {
	return a.MatchToleration(&b) && ptrEqual(a.TolerationSeconds, b.TolerationSeconds)
}

func ptrEqual(a, b *int64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

func noExecute(n *corev1.Node) []corev1.Taint {
	return slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectNoExecute })
}

// taintsChanged looks at the node's pods again where it has evicting taints. Where they were taken away, pods that
// wait for their time find out when it comes.
func (e *evictions) taintsChanged(before, after *corev1.Node) {
	taints := noExecute(after)
	e.remember(after.Name, taints)
	if len(taints) == 0 || (before != nil && sameTaints(noExecute(before), taints)) {
		return
	}
	pods, err := index.OnNode(e.c.pods, after.Name)
	if err != nil {
		return // the index is there since New
	}
	for _, p := range pods {
		e.podSeen(p)
	}
}

func (e *evictions) nodeGone(n *corev1.Node) { e.remember(n.Name, nil) }

// remember keeps when each of the node's taints was first seen, and forgets those it has no more.
func (e *evictions) remember(node string, taints []corev1.Taint) {
	e.mu.Lock()
	defer e.mu.Unlock()
	keep := map[seenTaint]bool{}
	for _, t := range taints {
		k := seenTaint{node, t.Key, t.Value}
		keep[k] = true
		if _, ok := e.since[k]; !ok {
			e.since[k] = e.c.env.Now()
		}
	}
	for k := range e.since {
		if k.node == node && !keep[k] {
			delete(e.since, k)
		}
	}
}

// dated fills TimeAdded where a taint lacks it.
func (e *evictions) dated(n *corev1.Node) []corev1.Taint {
	taints := noExecute(n)
	e.remember(n.Name, taints)
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range taints {
		if taints[i].TimeAdded == nil {
			at := metav1.NewTime(e.since[seenTaint{n.Name, taints[i].Key, taints[i].Value}])
			taints[i].TimeAdded = &at
		}
	}
	return taints
}

func (e *evictions) podSeen(p *corev1.Pod) {
	if p.Spec.NodeName == "" || p.DeletionTimestamp != nil {
		return
	}
	n, err := e.c.nodeLister.Get(p.Spec.NodeName)
	if err != nil || len(noExecute(n)) == 0 {
		return
	}
	e.queue.Add(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
}

func (e *evictions) evict(ctx context.Context, k types.NamespacedName) error {
	p, err := e.c.podLister.Pods(k.Namespace).Get(k.Name)
	if err != nil || p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
		return nil //nolint:nilerr // gone or going
	}
	n, err := e.c.nodeLister.Get(p.Spec.NodeName)
	if err != nil {
		return nil //nolint:nilerr // podgc takes the pods of nodes that are gone
	}
	at, ok := EvictAt(p, e.dated(n))
	if !ok {
		return nil
	}
	if left := at.Sub(e.c.env.Now()); left > 0 {
		e.queue.AddAfter(k, left)
		return nil
	}
	e.c.recorder.Eventf(p, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s", k)
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.UID},
		"status": map[string]any{"conditions": []corev1.PodCondition{{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByTaintManager",
			Message: "Taint manager: deleting due to NoExecute taint", LastTransitionTime: metav1.NewTime(e.c.env.Now()),
		}}},
	})
	if err != nil {
		return fmt.Errorf("encode a pod condition: %w", err)
	}
	api := e.c.client.CoreV1().Pods(p.Namespace)
	if _, err := api.Patch(ctx, p.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{}, "status"); err != nil {
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return fmt.Errorf("mark pod %s for eviction: %w", k, err)
	}
	err = api.Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("evict pod %s: %w", k, err)
	}
	return nil
}
