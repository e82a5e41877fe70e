package rootca

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"coracle/controlplane/controller/loop"
)

const workers = 2

// Controller of the root CA ConfigMaps. Run may be called again after it returned.
type Controller struct {
	client     kubernetes.Interface
	namespaces cache.SharedIndexInformer
	nsLister   corelisters.NamespaceLister
	rootCA     []byte
	env        loop.Env
}

// New makes the controller. rootCA is PEM.
func New(env loop.Env, rootCA []byte) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client:     env.Client,
		namespaces: core.Namespaces().Informer(), nsLister: core.Namespaces().Lister(),
		rootCA: rootCA, env: env,
	}
}

// Run reconciles until ctx ends. It watches ConfigMaps of this one name: all the others of a cluster
// would only fill the memory.
func (c *Controller) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, Name).String()
	}))
	maps := factory.Core().V1().ConfigMaps()
	informer, lister := maps.Informer(), maps.Lister()
	l := loop.New("rootca", c.env.Log, func(ctx context.Context, namespace string) error {
		has, err := lister.ConfigMaps(namespace).Get(Name)
		if err != nil {
			has = nil
		}
		return c.reconcile(ctx, namespace, has)
	})
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	return l.Run(ctx, workers,
		loop.Watch{Informer: c.namespaces, Handler: loop.Any(func(ns *corev1.Namespace) { l.Add(ns.Name) })},
		loop.Watch{Informer: informer, Handler: loop.On(nil,
			func(_, m *corev1.ConfigMap) { l.Add(m.Namespace) },
			func(m *corev1.ConfigMap) { l.Add(m.Namespace) })})
}

func (c *Controller) reconcile(ctx context.Context, namespace string, has *corev1.ConfigMap) error {
	ns, err := c.nsLister.Get(namespace)
	if err != nil {
		return nil //nolint:nilerr // the namespace is gone
	}
	next := MakePlan(ns, has, c.rootCA)
	if next == nil {
		return nil
	}
	api := c.client.CoreV1().ConfigMaps(namespace)
	if has == nil {
		_, err = api.Create(ctx, next, metav1.CreateOptions{})
	} else {
		_, err = api.Update(ctx, next, metav1.UpdateOptions{})
	}
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return fmt.Errorf("write config map %s/%s: %w", namespace, Name, err)
}
