package nodelifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/index"
	"coracle/controlplane/controller/loop"
	"coracle/controlplane/controller/podview"
	"coracle/internal/liveness"
)

const (
	// settle gathers the events of many nodes, as when a gateway starts, into one pass.
	settle = 20 * time.Millisecond
	// all is the one key: readiness of one node is judged with all others in sight.
	all = "nodes"
)

// Controller of the nodes' life. Run may be called again after it returned.
type Controller struct {
	client      kubernetes.Interface
	nodes       cache.SharedIndexInformer
	nodeLister  corelisters.NodeLister
	leases      cache.SharedIndexInformer
	leaseLister coordinationlisters.LeaseLister
	pods        cache.SharedIndexInformer
	podLister   corelisters.PodLister
	recorder    record.EventRecorder
	env         loop.Env

	loop  *loop.Loop[string]
	pulse Pulse // one worker, so no lock
	next  map[string]time.Time
	known map[string]types.UID // the nodes that were told of, by name
	evictions
}

// New makes the controller and its informers.
func New(env loop.Env) (*Controller, error) {
	core, leases := env.Informers.Core().V1(), env.Informers.Coordination().V1().Leases()
	c := &Controller{
		client: env.Client,
		nodes:  core.Nodes().Informer(), nodeLister: core.Nodes().Lister(),
		leases: leases.Informer(), leaseLister: leases.Lister(),
		pods: core.Pods().Informer(), podLister: core.Pods().Lister(),
		recorder: env.Recorder("node-controller"),
		env:      env,
	}
	if err := index.Nodes(c.pods); err != nil {
		return nil, err
	}
	return c, nil
}

// Run watches over nodes and evicts pods until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	c.pulse, c.next, c.known = Pulse{}, map[string]time.Time{}, map[string]types.UID{}
	c.loop = loop.New("nodelifecycle", c.env.Log, func(ctx context.Context, _ string) error { return c.reconcile(ctx) })
	c.startEvictions(c)
	wakeLease := func(l *coordinationv1.Lease) {
		_, gateway := liveness.GatewayName(l.Name)
		if l.Namespace == liveness.NodeLeaseNamespace || (gateway && l.Namespace == liveness.GatewayLeaseNamespace) {
			c.loop.AddAfter(all, settle)
		}
	}
	var group errgroup.Group
	group.Go(func() error {
		return c.loop.Run(ctx, 1,
			loop.Watch{Informer: c.nodes, Handler: loop.Any(func(*corev1.Node) { c.loop.AddAfter(all, settle) })},
			loop.Watch{Informer: c.leases, Handler: loop.Any(wakeLease)},
			loop.Watch{Informer: c.pods, Handler: loop.On(nil, c.podChanged, nil)})
	})
	group.Go(func() error { return c.runEvictions(ctx) })
	return group.Wait()
}

// podChanged looks again at a pod that says it is ready on a node that is lost: an old report may have come late.
func (c *Controller) podChanged(before, after *corev1.Pod) {
	if !podview.Ready(before) && podview.Ready(after) {
		if n, err := c.nodeLister.Get(after.Spec.NodeName); err == nil && !isTrue(n, corev1.NodeReady) {
			c.loop.AddAfter(all, settle)
		}
	}
}

// observe reads nodes and leases.
func (c *Controller) observe(now time.Time) ([]State, error) {
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	states := make([]State, 0, len(nodes))
	names := map[string]bool{}
	for _, n := range nodes {
		names[n.Name] = true
		lease, err := c.leaseLister.Leases(liveness.NodeLeaseNamespace).Get(n.Name)
		if err != nil {
			lease = nil // a cache lister knows no other error than that there is none
		}
		var believed time.Time
		if s := liveness.ReadSession(lease); s.Gateway != "" {
			gateway, err := c.leaseLister.Leases(liveness.GatewayLeaseNamespace).Get(liveness.GatewayLeaseName(s.Gateway))
			if err != nil {
				gateway = nil
			}
			believed = c.pulse.Gateway(s.Gateway, gateway, now)
		}
		states = append(states, State{Node: n, Heard: c.pulse.Node(n, lease, believed, now), Why: session(lease)})
	}
	c.pulse.Keep(names)
	return states, nil
}

func (c *Controller) reconcile(ctx context.Context) error {
	now := c.env.Now()
	states, err := c.observe(now)
	if err != nil {
		return err
	}
	c.tellOfChanges(states)
	plan := MakePlan(Input{Nodes: states, Next: c.next, Now: now})
	c.next = plan.Next
	if !plan.WakeAt.IsZero() {
		c.loop.AddAfter(all, plan.WakeAt.Sub(now))
	}
	var errs []error
	for _, change := range plan.Changes {
		if err := c.apply(ctx, change); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range plan.Lost {
		if err := c.markPods(ctx, name, now); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 1 {
		return errs[0] // so that a conflict is seen as one
	}
	return errors.Join(errs...)
}

// tellOfChanges tells in an event of each node that this controller takes charge of, and of each that is gone. A node that was
// deleted and registered again is both.
func (c *Controller) tellOfChanges(states []State) {
	present := make(map[string]types.UID, len(states))
	for _, s := range states {
		present[s.Node.Name] = s.Node.UID
	}
	for name, uid := range c.known {
		if now, ok := present[name]; !ok || now != uid {
			c.tell(name, uid, "RemovingNode", "Removing Node "+name+" from Controller")
		}
	}
	for name, uid := range present {
		if before, ok := c.known[name]; !ok || before != uid {
			c.tell(name, uid, "RegisteredNode", "Registered Node "+name+" in Controller")
		}
	}
	c.known = present
}

func (c *Controller) tell(node string, uid types.UID, reason, message string) {
	c.recorder.Eventf(&corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: uid},
		corev1.EventTypeNormal, reason, "Node %s event: %s", node, message)
}

// apply writes one node's taints and conditions. Taints carry the resourceVersion they were computed from, since users
// write them too; conditions are merged by type.
func (c *Controller) apply(ctx context.Context, change Change) error {
	n := change.Node
	if len(change.Conditions) > 0 {
		raw, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": n.UID}, "status": map[string]any{"conditions": change.Conditions},
		})
		if err != nil {
			return fmt.Errorf("encode node conditions: %w", err)
		}
		patched, err := c.client.CoreV1().Nodes().Patch(ctx, n.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{}, "status")
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("mark node %s as lost: %w", n.Name, err)
		}
		if change.SetTaints && !sameTaints(patched.Spec.Taints, n.Spec.Taints) {
			return nil // somebody else wrote taints meanwhile: the event of it brings the next plan
		}
		n = patched
		if change.NotReady {
			c.recorder.Eventf(n, corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", n.Name)
		}
	}
	if !change.SetTaints {
		return nil
	}
	taints := change.Taints
	if taints == nil {
		taints = []corev1.Taint{}
	}
	raw, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": n.UID, "resourceVersion": n.ResourceVersion}, "spec": map[string]any{"taints": taints},
	})
	if err != nil {
		return fmt.Errorf("encode node taints: %w", err)
	}
	_, err = c.client.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, raw, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("taint node %s: %w", n.Name, err)
	}
	return nil
}

// markPods takes the pods of a lost node out of service: nobody vouches for their readiness any more. The node's
// agent reports anew when it is back.
func (c *Controller) markPods(ctx context.Context, node string, now time.Time) error {
	pods, err := index.OnNode(c.pods, node)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(8)
	for _, p := range pods {
		if !podview.Ready(p) || podview.Finished(p) {
			continue
		}
		group.Go(func() error {
			raw, err := json.Marshal(map[string]any{
				"metadata": map[string]any{"uid": p.UID},
				"status": map[string]any{"conditions": []corev1.PodCondition{{
					Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now),
					Reason: "NodeNotReady", Message: "Node " + node + " is not ready",
				}}},
			})
			if err != nil {
				return fmt.Errorf("encode a pod condition: %w", err)
			}
			_, err = c.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{}, "status")
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("mark pod %s/%s as not ready: %w", p.Namespace, p.Name, err)
			}
			c.recorder.Event(p, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
			return nil
		})
	}
	return group.Wait()
}
