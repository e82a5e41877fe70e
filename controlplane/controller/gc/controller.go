package gc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/loop"
)

const (
	workers = 8
	// rediscover is how soon a new kind of object is noticed.
	rediscover = 30 * time.Second
	// settle lets the event of an owner come that was made just before its dependent, which saves asking for it.
	settle = 300 * time.Millisecond
)

// shared are resources that other controllers hold in the shared informers anyway: their objects are not held twice.
var shared = map[schema.GroupResource]bool{
	{Resource: "pods"}: true, {Resource: "services"}: true, {Resource: "endpoints"}: true, {Resource: "nodes"}: true,
	{Resource: "namespaces"}: true, {Resource: "serviceaccounts"}: true,
	{Group: "apps", Resource: "replicasets"}: true, {Group: "apps", Resource: "deployments"}: true,
	{Group: "discovery.k8s.io", Resource: "endpointslices"}: true,
	{Group: "coordination.k8s.io", Resource: "leases"}:      true,
}

// Controller collects garbage. Run may be called again after it returned.
type Controller struct {
	discovery discovery.DiscoveryInterface
	metadata  metadata.Interface
	recorder  record.EventRecorder
	env       loop.Env

	// Made anew by each Run.
	graph    *graph
	loop     *loop.Loop[types.UID]
	mu       sync.Mutex
	kinds    map[schema.GroupKind]*resource
	monitors map[schema.GroupVersionResource]*monitor
	synced   bool // every first list was delivered once
	// gone has one slot: a resource that was watched is not served any more.
	gone chan struct{}
}

// monitor is the watch of one resource.
type monitor struct {
	kind *resource
	stop func()
	done func() bool // its first list was delivered
}

// New makes the controller.
func New(env loop.Env, m metadata.Interface) *Controller {
	return &Controller{
		discovery: env.Client.Discovery(), metadata: m, recorder: env.Recorder("garbage-collector-controller"), env: env,
	}
}

// Run collects until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.graph = newGraph()
	c.loop = loop.New("gc", c.env.Log, c.reconcile)
	c.mu.Lock()
	c.kinds, c.monitors, c.synced = nil, map[schema.GroupVersionResource]*monitor{}, false
	c.gone = make(chan struct{}, 1)
	c.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.discover(ctx, group) })
	group.Go(func() error { return c.loop.Run(ctx, workers) })
	err := group.Wait()
	for _, m := range c.monitors { // nobody else is left to read them
		m.stop()
	}
	return err
}

// discover keeps the watches in step with what is served.
func (c *Controller) discover(ctx context.Context, group *errgroup.Group) error {
	told := ""
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.gone:
		}
		kinds, err := served(c.discovery)
		if text := fmt.Sprint(err); err != nil && text != told {
			c.env.Log.Warn("garbage collection knows a part of the resources only", "controller", "gc", "err", err)
			told = text
		}
		next := rediscover
		if len(kinds) == 0 {
			next = time.Second // the server does not answer yet
		} else {
			c.follow(ctx, group, kinds, err != nil)
			if !c.firstLists(ctx) {
				return nil
			}
		}
		timer.Reset(next)
	}
}

// follow starts watches for resources that are new and, where the discovery was whole, ends those of resources that are
// gone.
func (c *Controller) follow(ctx context.Context, group *errgroup.Group, kinds map[schema.GroupKind]*resource, partial bool) {
	for _, m := range c.change(ctx, group, kinds, partial) {
		m.stop() // without the lock, which its handler takes
		c.look(c.graph.dropKind(m.kind))
	}
}

// change does what follow says, but for the watches to end, which it returns.
func (c *Controller) change(ctx context.Context, group *errgroup.Group, kinds map[schema.GroupKind]*resource, partial bool) (ended []*monitor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[schema.GroupVersionResource]bool{}
	for gk, r := range kinds {
		wanted[r.gvr] = r.watched
		if m := c.monitors[r.gvr]; m != nil {
			kinds[gk] = m.kind // one value for one resource: vertices point to it
			continue
		}
		if !r.watched {
			continue
		}
		m, err := c.watch(ctx, group, r)
		if err != nil {
			c.env.Log.Error("watch for garbage collection", "controller", "gc", "resource", r.gvr.String(), "err", err)
			continue
		}
		c.monitors[r.gvr] = m
	}
	if partial {
		for gk, r := range c.kinds {
			if kinds[gk] == nil {
				kinds[gk] = r
			}
		}
	} else {
		for gvr, m := range c.monitors {
			if !wanted[gvr] {
				delete(c.monitors, gvr)
				ended = append(ended, m)
			}
		}
	}
	c.kinds = kinds
	return ended
}

// watch starts following one resource.
func (c *Controller) watch(ctx context.Context, group *errgroup.Group, r *resource) (*monitor, error) {
	handler := loop.On(
		func(o metav1.Object) { c.seen(r, o) },
		func(before, after metav1.Object) {
			if before.GetUID() != after.GetUID() {
				c.look(c.graph.remove(before.GetUID()))
			}
			c.seen(r, after)
		},
		func(o metav1.Object) { c.look(c.graph.remove(o.GetUID())) })
	if shared[r.gvr.GroupResource()] {
		generic, err := c.env.Informers.ForResource(r.gvr)
		if err == nil {
			synced, remove, err := loop.Attach(loop.Watch{Informer: generic.Informer(), Handler: handler})
			if err != nil {
				return nil, fmt.Errorf("watch %s: %w", r.gvr, err)
			}
			return &monitor{kind: r, done: synced, stop: remove}, nil
		}
	}
	informer := metadatainformer.NewFilteredMetadataInformer(c.metadata, r.gvr, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	if err := informer.SetTransform(strip); err != nil {
		return nil, fmt.Errorf("watch %s: %w", r.gvr, err)
	}
	if err := informer.SetWatchErrorHandlerWithContext(c.watchFailed); err != nil {
		return nil, fmt.Errorf("watch %s: %w", r.gvr, err)
	}
	synced, remove, err := loop.Attach(loop.Watch{Informer: informer, Handler: handler})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", r.gvr, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	group.Go(func() error {
		informer.RunWithContext(ctx)
		return nil
	})
	return &monitor{kind: r, done: synced, stop: func() {
		remove()
		cancel()
	}}, nil
}

// watchFailed is told of each watch that ends with an error. A resource that is not there any more, because its definition was
// deleted, has the discovery look again at once, which ends the watch; all else is the library's to tell.
func (c *Controller) watchFailed(ctx context.Context, r *cache.Reflector, err error) {
	if !apierrors.IsNotFound(err) {
		cache.DefaultWatchErrorHandler(ctx, r, err)
		return
	}
	select {
	case c.gone <- struct{}{}:
	default:
	}
}

// strip drops what the graph does not need, which is most of an object's metadata.
func strip(obj any) (any, error) {
	if o, ok := obj.(*metav1.PartialObjectMetadata); ok {
		o.ManagedFields, o.Labels, o.Annotations = nil, nil, nil
	}
	return obj, nil
}

// firstLists waits until every watch has delivered its first list; after that, what came out in the meantime is looked
// at. A resource that never answers must not stop the collection of the others for ever. False: ctx ended.
func (c *Controller) firstLists(ctx context.Context) bool {
	c.mu.Lock()
	var waiting []cache.InformerSynced
	for _, m := range c.monitors {
		if !m.done() {
			waiting = append(waiting, m.done)
		}
	}
	synced := c.synced
	c.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, rediscover)
	defer cancel()
	whole := cache.WaitForCacheSync(limited.Done(), waiting...)
	if ctx.Err() != nil {
		return false
	}
	if !synced && whole {
		c.mu.Lock()
		c.synced = true
		c.mu.Unlock()
		for _, uid := range c.graph.suspects() {
			c.loop.Add(uid)
		}
	}
	return true
}

func (c *Controller) seen(r *resource, o metav1.Object) {
	v := newVertex(r, o)
	look := c.graph.set(v)
	if !c.isSynced() {
		return
	}
	for _, uid := range look {
		if uid == v.uid && !v.deleting {
			c.loop.AddAfter(uid, settle)
		} else {
			c.loop.Add(uid)
		}
	}
}

func (c *Controller) look(uids []types.UID) {
	if !c.isSynced() {
		return
	}
	for _, uid := range uids {
		c.loop.Add(uid)
	}
}

func (c *Controller) isSynced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced
}

func (c *Controller) resourceOf(ref metav1.OwnerReference) *resource {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kinds[schema.GroupKind{Group: groupOf(ref.APIVersion), Kind: ref.Kind}]
}

// complain tells in an event of a reference that can never work.
func (c *Controller) complain(v *vertex, ref metav1.OwnerReference) {
	c.recorder.Eventf(&corev1.ObjectReference{
		APIVersion: v.kind.gvr.GroupVersion().String(), Kind: v.kind.kind, Namespace: v.namespace, Name: v.name, UID: v.uid,
	}, corev1.EventTypeWarning, "OwnerRefInvalidNamespace", "ownerRef [%s/%s, name: %s, uid: %s] does not exist in namespace %q",
		ref.APIVersion, ref.Kind, ref.Name, ref.UID, v.namespace)
}
