package namespace

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"

	"coracle/controlplane/controller/loop"
)

const (
	workers = 3
	// settle lets creations end that were under way when the deletion began, so that they are found too.
	settle = 200 * time.Millisecond
)

// Controller of namespaces being deleted. Run may be called again after it returned.
type Controller struct {
	client     kubernetes.Interface
	metadata   metadata.Interface
	namespaces cache.SharedIndexInformer
	lister     corelisters.NamespaceLister
	podCache   cache.SharedIndexInformer
	podLister  corelisters.PodLister
	env        loop.Env
	loop       *loop.Loop[string]
}

// New makes the controller and its informers.
func New(env loop.Env, m metadata.Interface) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client: env.Client, metadata: m,
		namespaces: core.Namespaces().Informer(), lister: core.Namespaces().Lister(),
		podCache: core.Pods().Informer(), podLister: core.Pods().Lister(),
		env: env,
	}
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.loop = loop.New("namespace", c.env.Log, c.reconcile)
	wake := func(ns *corev1.Namespace) {
		if ns.DeletionTimestamp != nil {
			c.loop.AddAfter(ns.Name, settle)
		}
	}
	return c.loop.Run(ctx, workers,
		loop.Watch{Informer: c.namespaces, Handler: loop.On(wake, func(_, ns *corev1.Namespace) { wake(ns) }, nil)},
		loop.Watch{Informer: c.podCache, Handler: loop.On(nil, nil, c.podGone)})
}

// podGone looks again as soon as the last pod of a namespace that is being deleted has ended.
func (c *Controller) podGone(p *corev1.Pod) {
	ns, err := c.lister.Get(p.Namespace)
	if err == nil && ns.DeletionTimestamp != nil && len(c.pods(p.Namespace)) == 0 {
		c.loop.Add(p.Namespace)
	}
}

func (c *Controller) pods(namespace string) []*corev1.Pod {
	list, err := c.podLister.Pods(namespace).List(labels.Everything())
	if err != nil {
		return nil // a cache lister has no errors
	}
	return list
}

func (c *Controller) reconcile(ctx context.Context, name string) error {
	ns, err := c.lister.Get(name)
	if err != nil || ns.DeletionTimestamp == nil {
		return nil //nolint:nilerr // gone, or not being deleted
	}
	// Deletions are decided on the namespace itself: its uid and finalizers must be today's.
	ns, err = c.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get namespace %s: %w", name, err)
	}
	if ns.DeletionTimestamp == nil || !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return nil // another one of the name, or emptied already and held by others
	}
	if ns.Status.Phase != corev1.NamespaceTerminating {
		ns = ns.DeepCopy()
		ns.Status.Phase = corev1.NamespaceTerminating
		if ns, err = c.client.CoreV1().Namespaces().UpdateStatus(ctx, ns, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("mark namespace %s as terminating: %w", name, err)
		}
	}
	plan := MakePlan(ns, empty(ctx, c.client.Discovery(), c.metadata, c, name), c.env.Now())
	if ctx.Err() != nil {
		return nil //nolint:nilerr // what was found is incomplete; the next run asks again
	}
	if plan.Finalize {
		return c.finalize(ctx, ns)
	}
	if !equality.Semantic.DeepEqual(plan.Conditions, ns.Status.Conditions) {
		ns = ns.DeepCopy()
		ns.Status.Conditions = plan.Conditions
		if _, err := c.client.CoreV1().Namespaces().UpdateStatus(ctx, ns, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("update status of namespace %s: %w", name, err)
		}
	}
	c.loop.AddAfter(name, plan.Again)
	return nil
}

// finalize takes this controller's finalizer away; the namespace goes with the last one.
func (c *Controller) finalize(ctx context.Context, ns *corev1.Namespace) error {
	next := ns.DeepCopy()
	next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool {
		return f == corev1.FinalizerKubernetes
	})
	_, err := c.client.CoreV1().Namespaces().Finalize(ctx, next, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("finalize namespace %s: %w", ns.Name, err)
	}
	return nil
}
