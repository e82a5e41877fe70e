package nodeipam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"coracle/controlplane/controller/loop"
)

// Controller of the nodes' pod ranges. Run may be called again after it returned.
type Controller struct {
	client   kubernetes.Interface
	nodes    cache.SharedIndexInformer
	lister   corelisters.NodeLister
	recorder record.EventRecorder
	pools    []Pool
	env      loop.Env
	given    map[types.UID][]string // by this run, not seen in the cache yet; one worker, so no lock
}

// New makes the controller. Without pools it does nothing.
func New(env loop.Env, pools []Pool) *Controller {
	return &Controller{
		client: env.Client,
		nodes:  env.Informers.Core().V1().Nodes().Informer(), lister: env.Informers.Core().V1().Nodes().Lister(),
		recorder: env.Recorder("cidr-allocator"), pools: pools, env: env,
	}
}

// Run reconciles until ctx ends. One worker for one key: ranges are given one after the other.
func (c *Controller) Run(ctx context.Context) error {
	c.given = map[types.UID][]string{}
	l := loop.New("nodeipam", c.env.Log, func(ctx context.Context, _ string) error { return c.reconcile(ctx) })
	wake := func(*corev1.Node) { l.Add("nodes") }
	return l.Run(ctx, 1, loop.Watch{Informer: c.nodes, Handler: loop.On(wake, func(before, after *corev1.Node) {
		if len(after.Spec.PodCIDRs) == 0 || before.UID != after.UID {
			wake(after)
		}
	}, wake)})
}

func (c *Controller) reconcile(ctx context.Context) error {
	if len(c.pools) == 0 {
		return nil
	}
	cached, err := c.lister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	nodes := c.overlay(cached)
	assign, full := MakePlan(c.pools, nodes)
	byName := map[string]*corev1.Node{}
	for _, n := range nodes {
		byName[n.Name] = n
	}
	for _, name := range full {
		c.recorder.Eventf(byName[name], corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", name)
	}
	var errs []error
	for _, a := range assign {
		n := byName[a.Node]
		raw, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": n.UID, "resourceVersion": n.ResourceVersion},
			"spec":     map[string]any{"podCIDR": a.CIDRs[0], "podCIDRs": a.CIDRs},
		})
		if err != nil {
			return fmt.Errorf("encode pod ranges: %w", err)
		}
		_, err = c.client.CoreV1().Nodes().Patch(ctx, a.Node, types.StrategicMergePatchType, raw, metav1.PatchOptions{})
		switch {
		case err == nil:
			c.given[n.UID] = a.CIDRs
		case !apierrors.IsNotFound(err):
			errs = append(errs, fmt.Errorf("give node %s the pod ranges %v: %w", a.Node, a.CIDRs, err))
		}
	}
	if len(full) > 0 {
		errs = append(errs, fmt.Errorf("no pod range is left for %v: choose a larger pod range or a longer mask", full))
	}
	return errors.Join(errs...)
}

// overlay adds what was given a moment ago and the cache does not show yet.
func (c *Controller) overlay(cached []*corev1.Node) []*corev1.Node {
	out := make([]*corev1.Node, 0, len(cached))
	seen := map[types.UID]bool{}
	for _, n := range cached {
		cidrs, ok := c.given[n.UID]
		switch {
		case ok && len(n.Spec.PodCIDRs) == 0:
			seen[n.UID] = true
			n = n.DeepCopy()
			n.Spec.PodCIDR, n.Spec.PodCIDRs = cidrs[0], cidrs
		case ok:
			delete(c.given, n.UID)
		}
		out = append(out, n)
	}
	for uid := range c.given {
		if !seen[uid] {
			delete(c.given, uid) // deleted meanwhile
		}
	}
	return out
}
