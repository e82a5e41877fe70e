package podgc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"coracle/controlplane/controller/loop"
	"coracle/controlplane/controller/podview"
)

// period is how often all pods are looked at even where nothing happened.
const period = 5 * time.Minute

// Controller that collects pods. Run may be called again after it returned.
type Controller struct {
	client    kubernetes.Interface
	pods      cache.SharedIndexInformer
	podLister corelisters.PodLister
	nodes     cache.SharedIndexInformer
	lister    corelisters.NodeLister
	env       loop.Env
	loop      *loop.Loop[string]
	missing   map[string]time.Time // one worker, so no lock
}

// New makes the controller and its informers.
func New(env loop.Env) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client: env.Client,
		pods:   core.Pods().Informer(), podLister: core.Pods().Lister(),
		nodes: core.Nodes().Informer(), lister: core.Nodes().Lister(),
		env: env,
	}
}

const all = "pods" // the one key: a pass looks at every pod

// Run collects until ctx ends. It looks when a node is deleted, when a pod without a node is, and every period.
func (c *Controller) Run(ctx context.Context) error {
	c.missing = map[string]time.Time{}
	c.loop = loop.New("podgc", c.env.Log, func(ctx context.Context, _ string) error { return c.collect(ctx) })
	c.loop.Add(all)
	return c.loop.Run(ctx, 1,
		loop.Watch{Informer: c.nodes, Handler: loop.On(nil, nil, func(*corev1.Node) { c.loop.Add(all) })},
		loop.Watch{Informer: c.pods, Handler: loop.On(nil, func(_, p *corev1.Pod) {
			if p.Spec.NodeName == "" && p.DeletionTimestamp != nil {
				c.loop.Add(all)
			}
		}, nil)})
}

func (c *Controller) collect(ctx context.Context) error {
	pods, err := c.podLister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	nodes, err := c.lister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	in := Input{Pods: pods, Nodes: map[string]bool{}, Missing: c.missing, Now: c.env.Now()}
	for _, n := range nodes {
		in.Nodes[n.Name] = true
	}
	plan := MakePlan(in)
	c.missing = plan.Missing
	again := period
	if plan.Again > 0 {
		again = plan.Again
	}
	c.loop.AddAfter(all, again)
	gone := map[string]bool{}
	for _, name := range plan.Suspects {
		// The cache may be wrong, and what follows cannot be undone.
		_, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("look whether node %s is gone: %w", name, err)
		}
		gone[name] = err != nil
	}
	var errs []error
	for _, d := range plan.Delete {
		if d.Orphan && !gone[d.Pod.Spec.NodeName] {
			continue
		}
		if err := c.remove(ctx, d); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove marks an orphan as failed and deletes the pod without grace: nobody is left who could end it.
func (c *Controller) remove(ctx context.Context, d Doomed) error {
	pod := d.Pod
	api := c.client.CoreV1().Pods(pod.Namespace)
	if d.Orphan && !podview.Finished(pod) {
		raw, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": pod.UID},
			"status": map[string]any{
				"phase": corev1.PodFailed,
				"conditions": []corev1.PodCondition{{
					Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC",
					Message: "PodGC: node no longer exists", LastTransitionTime: metav1.NewTime(c.env.Now()),
				}},
			},
		})
		if err != nil {
			return fmt.Errorf("encode a pod status: %w", err)
		}
		if _, err := api.Patch(ctx, pod.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{}, "status"); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("mark pod %s/%s as failed: %w", pod.Namespace, pod.Name, err)
		}
	}
	opts := *metav1.NewDeleteOptions(0)
	opts.Preconditions = &metav1.Preconditions{UID: &pod.UID}
	if err := api.Delete(ctx, pod.Name, opts); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
