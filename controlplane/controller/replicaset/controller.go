package replicaset

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/expect"
	"coracle/controlplane/controller/index"
	"coracle/controlplane/controller/loop"
	"coracle/controlplane/controller/owner"
	"coracle/controlplane/controller/podview"
)

const (
	workers = 5
	// settle is how long a change of a pod's status waits for more of its kind, so that a hundred
	// pods that become ready together cost a few status writes instead of a hundred.
	settle = 25 * time.Millisecond
)

var kind = appsv1.SchemeGroupVersion.WithKind("ReplicaSet")

// Controller of all ReplicaSets. Run may be called again after it returned.
type Controller struct {
	client   kubernetes.Interface
	sets     cache.SharedIndexInformer
	lister   appslisters.ReplicaSetLister
	pods     cache.SharedIndexInformer
	recorder record.EventRecorder
	env      loop.Env
	expected expect.Expectations
	loop     *loop.Loop[types.NamespacedName]
}

// New makes the controller and its informers.
func New(env loop.Env) (*Controller, error) {
	c := &Controller{
		client:   env.Client,
		sets:     env.Informers.Apps().V1().ReplicaSets().Informer(),
		lister:   env.Informers.Apps().V1().ReplicaSets().Lister(),
		pods:     env.Informers.Core().V1().Pods().Informer(),
		recorder: env.Recorder("replicaset-controller"),
		env:      env,
	}
	if err := index.Controllers(c.pods); err != nil {
		return nil, err
	}
	if err := index.Controllers(c.sets); err != nil {
		return nil, err
	}
	return c, nil
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.loop = loop.New("replicaset", c.env.Log, c.reconcile)
	c.expected = expect.Expectations{}
	return c.loop.Run(ctx, workers,
		loop.Watch{Informer: c.sets, Handler: loop.On(c.add, c.setChanged, c.setGone)},
		loop.Watch{Informer: c.pods, Handler: loop.On(c.podAdded, c.podChanged, c.podGone)})
}

func key(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (c *Controller) add(set *appsv1.ReplicaSet) { c.loop.Add(key(set)) }

func (c *Controller) setChanged(before, after *appsv1.ReplicaSet) {
	if before.UID != after.UID {
		c.setGone(before)
	}
	c.loop.Add(key(after))
}

func (c *Controller) setGone(set *appsv1.ReplicaSet) {
	c.expected.Forget(string(set.UID))
	c.loop.Add(key(set))
}

// holder is the set that controls the pod, by the cache; nil if another kind or nothing does.
func (c *Controller) holder(pod *corev1.Pod) *appsv1.ReplicaSet {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil || ref.Kind != kind.Kind {
		return nil
	}
	set, err := c.lister.ReplicaSets(pod.Namespace).Get(ref.Name)
	if err != nil || set.UID != ref.UID {
		return nil
	}
	return set
}

func (c *Controller) podAdded(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		c.podGone(pod)
		return
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		c.expected.Created(string(ref.UID), 1)
		if set := c.holder(pod); set != nil {
			c.loop.Add(key(set))
		}
		return
	}
	c.wakeAdopters(pod)
}

func (c *Controller) podChanged(before, after *corev1.Pod) {
	if before.UID != after.UID {
		c.podGone(before)
		c.podAdded(after)
		return
	}
	if after.DeletionTimestamp != nil && before.DeletionTimestamp == nil {
		c.podGone(after)
		return
	}
	same := owner.SameController(before, after)
	if !same {
		if set := c.holder(before); set != nil {
			c.loop.Add(key(set))
		}
	}
	if metav1.GetControllerOfNoCopy(after) != nil {
		if set := c.holder(after); set != nil {
			c.loop.AddAfter(key(set), settle)
		}
		return
	}
	if !same || !equality.Semantic.DeepEqual(before.Labels, after.Labels) {
		c.wakeAdopters(after)
	}
}

func (c *Controller) podGone(pod *corev1.Pod) {
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil {
		c.expected.Deleted(string(ref.UID), pod.UID)
	}
	if set := c.holder(pod); set != nil {
		c.loop.Add(key(set))
	}
}

// wakeAdopters wakes the sets that would adopt an orphan.
func (c *Controller) wakeAdopters(pod *corev1.Pod) {
	sets, err := c.lister.ReplicaSets(pod.Namespace).List(labels.Everything())
	if err != nil {
		return // a cache lister has no errors
	}
	for _, set := range sets {
		selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(pod.Labels)) {
			c.loop.Add(key(set))
		}
	}
}

func (c *Controller) reconcile(ctx context.Context, k types.NamespacedName) error {
	set, err := c.lister.ReplicaSets(k.Namespace).Get(k.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get replica set %s: %w", k, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return nil //nolint:nilerr // validation lets none through; nothing can be done without one
	}
	now := c.env.Now()
	ready, left := c.expected.Satisfied(string(set.UID), now)
	pods, err := c.hold(ctx, set, selector)
	if err != nil {
		return err
	}
	in := Input{Set: set, Pods: pods, Crowd: c.crowd(set), Now: now}
	out := Outcome{Skipped: true}
	if ready {
		out = c.execute(ctx, set, MakePlan(in))
	} else {
		c.loop.AddAfter(k, left)
	}
	status, wakeAt := Status(in, out)
	if !wakeAt.IsZero() {
		c.loop.AddAfter(k, wakeAt.Sub(now))
	}
	if !equality.Semantic.DeepEqual(status, set.Status) {
		updated := set.DeepCopy()
		updated.Status = status
		if _, err := c.client.AppsV1().ReplicaSets(k.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
			if apierrors.IsNotFound(err) {
				return out.Err
			}
			return fmt.Errorf("update status of replica set %s: %w", k, err)
		}
	}
	return out.Err
}

// crowd counts the active pods on each node that are the set's or its siblings'.
func (c *Controller) crowd(set *appsv1.ReplicaSet) map[string]int {
	family := []*appsv1.ReplicaSet{set}
	if ref := metav1.GetControllerOfNoCopy(set); ref != nil {
		siblings, err := c.lister.ReplicaSets(set.Namespace).List(labels.Everything())
		if err == nil {
			for _, s := range siblings {
				if r := metav1.GetControllerOfNoCopy(s); r != nil && r.UID == ref.UID && s.UID != set.UID {
					family = append(family, s)
				}
			}
		}
	}
	counts := map[string]int{}
	for _, s := range family {
		pods, err := index.Candidates[*corev1.Pod](c.pods, s.Namespace, s.UID)
		if err != nil {
			return nil
		}
		for _, p := range pods {
			if podview.Active(p) && metav1.IsControlledBy(p, s) {
				counts[p.Spec.NodeName]++
			}
		}
	}
	return counts
}
