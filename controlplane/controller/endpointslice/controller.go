package endpointslice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/expect"
	"coracle/controlplane/controller/loop"
	"coracle/controlplane/controller/podview"
)

const (
	workers = 3
	// settle gathers changes of pods that come together into one write.
	settle = 50 * time.Millisecond
)

// Controller of the slices and Endpoints of all services. Run may be called again after it returned.
type Controller struct {
	client                kubernetes.Interface
	services, pods, nodes cache.SharedIndexInformer
	slices, endpoints     cache.SharedIndexInformer
	serviceLister         corelisters.ServiceLister
	podLister             corelisters.PodLister
	nodeLister            corelisters.NodeLister
	sliceLister           discoverylisters.EndpointSliceLister
	endpointsLister       corelisters.EndpointsLister
	recorder              record.EventRecorder
	env                   loop.Env
	expected              expect.Expectations
	loop                  *loop.Loop[types.NamespacedName]
}

// New makes the controller and its informers.
func New(env loop.Env) *Controller {
	core, discovery := env.Informers.Core().V1(), env.Informers.Discovery().V1()
	return &Controller{
		client:   env.Client,
		services: core.Services().Informer(), serviceLister: core.Services().Lister(),
		pods: core.Pods().Informer(), podLister: core.Pods().Lister(),
		nodes: core.Nodes().Informer(), nodeLister: core.Nodes().Lister(),
		slices: discovery.EndpointSlices().Informer(), sliceLister: discovery.EndpointSlices().Lister(),
		endpoints: core.Endpoints().Informer(), endpointsLister: core.Endpoints().Lister(),
		recorder: env.Recorder("endpoint-slice-controller"),
		env:      env,
	}
}

// Run reconciles until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.loop = loop.New("endpointslice", c.env.Log, c.reconcile)
	c.expected = expect.Expectations{}
	return c.loop.Run(ctx, workers,
		loop.Watch{Informer: c.services, Handler: loop.Any(func(s *corev1.Service) { c.loop.Add(key(s)) })},
		loop.Watch{Informer: c.pods, Handler: loop.On(c.podSeen, c.podChanged, c.podSeen)},
		loop.Watch{Informer: c.nodes, Handler: loop.On(nil, c.nodeChanged, nil)},
		loop.Watch{Informer: c.slices, Handler: loop.On(c.sliceAdded, c.sliceChanged, c.sliceSeen)},
		loop.Watch{Informer: c.endpoints, Handler: loop.Any(c.endpointsSeen)})
}

func key(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// wake looks again at the services that select such labels.
func (c *Controller) wake(namespace string, set map[string]string) {
	services, err := c.serviceLister.Services(namespace).List(labels.Everything())
	if err != nil {
		return // a cache lister has no errors
	}
	for _, s := range services {
		if len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(set)) {
			c.loop.AddAfter(key(s), settle)
		}
	}
}

func (c *Controller) podSeen(p *corev1.Pod) { c.wake(p.Namespace, p.Labels) }

func (c *Controller) podChanged(before, after *corev1.Pod) {
	relabelled := !equality.Semantic.DeepEqual(before.Labels, after.Labels)
	if relabelled {
		c.wake(before.Namespace, before.Labels)
	}
	if relabelled || before.UID != after.UID || podview.Ready(before) != podview.Ready(after) ||
		podview.Finished(before) != podview.Finished(after) ||
		(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		before.Spec.NodeName != after.Spec.NodeName || before.Status.PodIP != after.Status.PodIP ||
		!slices.Equal(before.Status.PodIPs, after.Status.PodIPs) {
		c.wake(after.Namespace, after.Labels)
	}
}

func (c *Controller) nodeChanged(before, after *corev1.Node) {
	if before.Labels[corev1.LabelTopologyZone] == after.Labels[corev1.LabelTopologyZone] {
		return
	}
	services, err := c.serviceLister.List(labels.Everything())
	if err != nil {
		return // a cache lister has no errors
	}
	for _, s := range services {
		c.loop.Add(key(s))
	}
}

func ours(s *discoveryv1.EndpointSlice) bool {
	return s.Labels[discoveryv1.LabelManagedBy] == ManagedBy
}

func serviceOf(s *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

func (c *Controller) sliceAdded(s *discoveryv1.EndpointSlice) {
	if ours(s) {
		c.expected.Created(serviceOf(s).String(), 1)
		c.loop.Add(serviceOf(s))
	}
}

func (c *Controller) sliceSeen(s *discoveryv1.EndpointSlice) {
	if ours(s) {
		c.loop.Add(serviceOf(s))
	}
}

func (c *Controller) sliceChanged(before, after *discoveryv1.EndpointSlice) {
	c.sliceSeen(before) // its service, if somebody relabelled it
	c.sliceSeen(after)
}

// endpointsSeen looks again at the service of the name. Endpoints without a service may be written before it: they are
// nothing to act on.
func (c *Controller) endpointsSeen(e *corev1.Endpoints) {
	if _, err := c.serviceLister.Services(e.Namespace).Get(e.Name); err == nil || e.Labels[endpointsManagedBy] == endpointsController {
		c.loop.Add(key(e))
	}
}

func (c *Controller) reconcile(ctx context.Context, k types.NamespacedName) error {
	s, err := c.serviceLister.Services(k.Namespace).Get(k.Name)
	if apierrors.IsNotFound(err) {
		c.expected.Forget(k.String())
		return c.serviceGone(ctx, k)
	}
	if err != nil {
		return fmt.Errorf("get service %s: %w", k, err)
	}
	if s.DeletionTimestamp != nil {
		return nil
	}
	if len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
		return c.mirror(ctx, s)
	}
	in, err := c.observe(s)
	if err != nil {
		return err
	}
	err = errors.Join(c.settleSlices(ctx, k, MakePlan(in)), c.writeEndpoints(ctx, in))
	if err != nil && !apierrors.IsConflict(err) && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		c.recorder.Eventf(s, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service %s: %v", k, err)
	}
	return err
}

// settleSlices carries a plan out, unless slices of the last one have not been seen yet.
func (c *Controller) settleSlices(ctx context.Context, k types.NamespacedName, plan Plan) error {
	ok, left := c.expected.Satisfied(k.String(), c.env.Now())
	if !ok {
		c.loop.AddAfter(k, left)
		return nil
	}
	return c.execute(ctx, k, plan)
}

// mirror keeps slices like the Endpoints that a user wrote for a service without selector.
func (c *Controller) mirror(ctx context.Context, s *corev1.Service) error {
	has, err := c.endpointsLister.Endpoints(s.Namespace).Get(s.Name)
	if err != nil {
		has = nil // a cache lister knows no other error than that there are none
	}
	mirrored, err := c.sliceLister.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{
		discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: MirroredBy,
	}))
	if err != nil {
		return fmt.Errorf("list mirrored endpoint slices of service %s: %w", key(s), err)
	}
	return c.settleSlices(ctx, key(s), PlanMirror(s, has, mirrored))
}

// observe reads what MakePlan needs from the caches.
func (c *Controller) observe(s *corev1.Service) (Input, error) {
	in := Input{Service: s, Zones: map[string]string{}}
	var err error
	if in.Pods, err = c.podLister.Pods(s.Namespace).List(labels.SelectorFromSet(s.Spec.Selector)); err != nil {
		return in, fmt.Errorf("list pods of service %s: %w", key(s), err)
	}
	if in.Slices, err = c.sliceLister.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{
		discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: ManagedBy,
	})); err != nil {
		return in, fmt.Errorf("list endpoint slices of service %s: %w", key(s), err)
	}
	for _, p := range in.Pods {
		if node, err := c.nodeLister.Get(p.Spec.NodeName); err == nil {
			in.Zones[node.Name] = node.Labels[corev1.LabelTopologyZone]
		}
	}
	return in, nil
}

func (c *Controller) execute(ctx context.Context, k types.NamespacedName, plan Plan) error {
	api := c.client.DiscoveryV1().EndpointSlices(k.Namespace)
	var errs []error
	c.expected.Expect(k.String(), len(plan.Create), nil, c.env.Now())
	for i, s := range plan.Create {
		if _, err := api.Create(ctx, s, metav1.CreateOptions{}); err != nil {
			c.expected.Created(k.String(), len(plan.Create)-i)
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil
			}
			return fmt.Errorf("create endpoint slice for service %s: %w", k, err)
		}
	}
	for _, s := range plan.Update {
		if _, err := api.Update(ctx, s, metav1.UpdateOptions{}); err != nil {
			errs = append(errs, fmt.Errorf("update endpoint slice %s/%s: %w", s.Namespace, s.Name, err))
		}
	}
	for _, s := range plan.Delete {
		err := api.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete endpoint slice %s/%s: %w", s.Namespace, s.Name, err))
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func (c *Controller) writeEndpoints(ctx context.Context, in Input) error {
	k := key(in.Service)
	has, err := c.endpointsLister.Endpoints(k.Namespace).Get(k.Name)
	if apierrors.IsNotFound(err) {
		has = nil
	} else if err != nil {
		return fmt.Errorf("get endpoints %s: %w", k, err)
	}
	next := PlanEndpoints(in, has)
	if next == nil {
		return nil
	}
	api := c.client.CoreV1().Endpoints(k.Namespace)
	if has == nil {
		_, err = api.Create(ctx, next, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil // the event of the existing one brings the next plan
		}
	} else {
		_, err = api.Update(ctx, next, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write endpoints %s: %w", k, err)
	}
	return nil
}

// serviceGone deletes the Endpoints of the service's name; the slices go by their owner reference.
func (c *Controller) serviceGone(ctx context.Context, k types.NamespacedName) error {
	has, err := c.endpointsLister.Endpoints(k.Namespace).Get(k.Name)
	if err != nil {
		return nil //nolint:nilerr // there is none
	}
	if _, leader := has.Annotations[leaderElectionEndpoints]; leader {
		return nil // somebody's lock, not a service's endpoints
	}
	err = c.client.CoreV1().Endpoints(k.Namespace).Delete(ctx, k.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &has.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete endpoints %s of a deleted service: %w", k, err)
	}
	return nil
}
