package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

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
	"k8s.io/utils/ptr"

	"coracle/controlplane/controller/index"
	"coracle/controlplane/controller/loop"
	"coracle/controlplane/controller/owner"
	"coracle/controlplane/controller/podview"
)

const workers = 5

var kind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// Controller of all Deployments. Run may be called again after it returned.
type Controller struct {
	client      kubernetes.Interface
	deployments cache.SharedIndexInformer
	lister      appslisters.DeploymentLister
	sets        cache.SharedIndexInformer
	pods        cache.SharedIndexInformer
	recorder    record.EventRecorder
	env         loop.Env
	loop        *loop.Loop[types.NamespacedName]
}

// New makes the controller and its informers.
func New(env loop.Env) (*Controller, error) {
	c := &Controller{
		client:      env.Client,
		deployments: env.Informers.Apps().V1().Deployments().Informer(),
		lister:      env.Informers.Apps().V1().Deployments().Lister(),
		sets:        env.Informers.Apps().V1().ReplicaSets().Informer(),
		pods:        env.Informers.Core().V1().Pods().Informer(),
		recorder:    env.Recorder("deployment-controller"),
		env:         env,
	}
	for _, informer := range []cache.SharedIndexInformer{c.sets, c.pods} {
		if err := index.Controllers(informer); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Run reconciles until ctx ends. Pods are read, not watched: each change of theirs that matters
// here changes the status of their ReplicaSet too.
func (c *Controller) Run(ctx context.Context) error {
	c.loop = loop.New("deployment", c.env.Log, c.reconcile)
	return c.loop.Run(ctx, workers,
		loop.Watch{Informer: c.deployments, Handler: loop.Any(c.add)},
		loop.Watch{Informer: c.sets, Handler: loop.On(c.setSeen, c.setChanged, c.setSeen)},
		loop.Watch{Informer: c.pods, Handler: loop.On[*corev1.Pod](nil, nil, nil)})
}

func key(o metav1.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (c *Controller) add(d *appsv1.Deployment) { c.loop.Add(key(d)) }

func (c *Controller) setSeen(s *appsv1.ReplicaSet) {
	if ref := metav1.GetControllerOfNoCopy(s); ref != nil {
		if ref.Kind == kind.Kind {
			c.loop.Add(types.NamespacedName{Namespace: s.Namespace, Name: ref.Name})
		}
		return
	}
	deployments, err := c.lister.Deployments(s.Namespace).List(labels.Everything())
	if err != nil {
		return // a cache lister has no errors
	}
	for _, d := range deployments {
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(s.Labels)) {
			c.add(d)
		}
	}
}

func (c *Controller) setChanged(before, after *appsv1.ReplicaSet) {
	if !owner.SameController(before, after) {
		c.setSeen(before)
	}
	c.setSeen(after)
}

func (c *Controller) reconcile(ctx context.Context, k types.NamespacedName) error {
	d, err := c.lister.Deployments(k.Namespace).Get(k.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get deployment %s: %w", k, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || selector.Empty() {
		c.recorder.Event(d, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return nil //nolint:nilerr // only a changed spec can help
	}
	sets, err := c.hold(ctx, d, selector)
	if err != nil {
		return err
	}
	in := Input{Deployment: d, Sets: sets, Now: c.env.Now()}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		if in.OldPods, err = c.oldPods(d, sets); err != nil {
			return err
		}
	}
	plan := MakePlan(in)
	if !plan.WakeAt.IsZero() {
		c.loop.AddAfter(k, plan.WakeAt.Sub(in.Now))
	}
	stepErr := c.execute(ctx, d, &plan)
	if plan.Revision != "" && stepErr == nil {
		if d, err = c.annotate(ctx, d, plan.Revision); err != nil {
			return err
		}
	}
	if stepErr != nil && apierrors.IsConflict(stepErr) {
		return stepErr
	}
	if !equality.Semantic.DeepEqual(plan.Status, d.Status) {
		updated := d.DeepCopy()
		updated.Status = plan.Status
		if _, err := c.client.AppsV1().Deployments(k.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update status of deployment %s: %w", k, err)
		}
	}
	return stepErr
}

// oldPods is true while a pod of an earlier template has not ended.
func (c *Controller) oldPods(d *appsv1.Deployment, sets []*appsv1.ReplicaSet) (bool, error) {
	sorted := slices.SortedFunc(slices.Values(sets), byAge)
	fresh := findNew(d, sorted)
	for _, s := range sorted {
		if s == fresh {
			continue
		}
		pods, err := index.Candidates[*corev1.Pod](c.pods, s.Namespace, s.UID)
		if err != nil {
			return false, err
		}
		for _, p := range pods {
			if metav1.IsControlledBy(p, s) && !podview.Finished(p) {
				return true, nil
			}
		}
	}
	return false, nil
}

// hold adopts and releases ReplicaSets and returns those that the deployment holds.
func (c *Controller) hold(ctx context.Context, d *appsv1.Deployment, selector labels.Selector) ([]*appsv1.ReplicaSet, error) {
	candidates, err := index.Candidates[*appsv1.ReplicaSet](c.sets, d.Namespace, d.UID)
	if err != nil {
		return nil, err
	}
	claim := owner.Sort(d, selector, candidates)
	sets := claim.Held
	if len(claim.Adopt) > 0 {
		live, err := c.client.AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("look at deployment %s/%s before adopting: %w", d.Namespace, d.Name, err)
		}
		if live.UID != d.UID || live.DeletionTimestamp != nil {
			return nil, fmt.Errorf("deployment %s/%s was deleted or replaced: not adopting for it", d.Namespace, d.Name)
		}
	}
	for _, s := range claim.Adopt {
		raw, err := owner.AdoptPatch(s.UID, owner.Reference(d, kind))
		if err != nil {
			return nil, err
		}
		adopted, err := c.patchSet(ctx, s, raw)
		if err != nil {
			return nil, fmt.Errorf("adopt replica set %s/%s: %w", s.Namespace, s.Name, err)
		}
		if adopted != nil {
			sets = append(sets, adopted)
		}
	}
	for _, s := range claim.Release {
		raw, err := owner.ReleasePatch(s.UID, d.UID)
		if err != nil {
			return nil, err
		}
		if _, err := c.patchSet(ctx, s, raw); err != nil {
			return nil, fmt.Errorf("release replica set %s/%s: %w", s.Namespace, s.Name, err)
		}
	}
	return sets, nil
}

// patchSet returns nil without an error where the set is gone or another by now.
func (c *Controller) patchSet(ctx context.Context, s *appsv1.ReplicaSet, raw []byte) (*appsv1.ReplicaSet, error) {
	out, err := c.client.AppsV1().ReplicaSets(s.Namespace).Patch(ctx, s.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil, nil //nolint:nilerr // nothing left to patch
	}
	return out, err
}

// annotate writes the revision into the deployment where it differs and returns the newest object. It goes through the
// status subresource, as in Kubernetes, so that it is no new generation of the deployment.
func (c *Controller) annotate(ctx context.Context, d *appsv1.Deployment, revision string) (*appsv1.Deployment, error) {
	if d.Annotations[RevisionAnnotation] == revision {
		return d, nil
	}
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": d.UID, "annotations": map[string]string{RevisionAnnotation: revision},
	}})
	if err != nil {
		return nil, fmt.Errorf("encode a revision: %w", err)
	}
	out, err := c.client.AppsV1().Deployments(d.Namespace).Patch(ctx, d.Name, types.MergePatchType, raw, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("annotate deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	return out, nil
}

// execute carries the steps out, stopping at the first error. It edits plan.Status where creating fails.
func (c *Controller) execute(ctx context.Context, d *appsv1.Deployment, plan *Plan) error {
	api := c.client.AppsV1().ReplicaSets(d.Namespace)
	for _, step := range plan.Steps {
		var err error
		switch {
		case step.Create != nil:
			err = c.create(ctx, d, step.Create, plan)
		case step.Update != nil:
			_, err = api.Update(ctx, step.Update, metav1.UpdateOptions{})
		case step.Delete != nil:
			s := step.Delete
			err = api.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}})
			if apierrors.IsNotFound(err) {
				err = nil
			}
		}
		if errors.Is(err, errNothingMade) {
			continue
		}
		if err != nil {
			return fmt.Errorf("deployment %s/%s: %s: %w", d.Namespace, d.Name, step, err)
		}
		if step.Event != "" {
			c.recorder.Event(d, corev1.EventTypeNormal, "ScalingReplicaSet", step.Event)
		}
	}
	return nil
}

// errNothingMade: the new set was not made, and need not be told of.
var errNothingMade = errors.New("nothing made")

// create makes the new set. One of the same name that is the deployment's own is what was wanted; any
// other is a collision, which the next plan avoids by another hash.
func (c *Controller) create(ctx context.Context, d *appsv1.Deployment, s *appsv1.ReplicaSet, plan *Plan) error {
	api := c.client.AppsV1().ReplicaSets(d.Namespace)
	_, err := api.Create(ctx, s, metav1.CreateOptions{})
	switch {
	case err == nil:
		return nil
	case apierrors.IsAlreadyExists(err):
		has, getErr := api.Get(ctx, s.Name, metav1.GetOptions{})
		if getErr != nil {
			return getErr
		}
		if metav1.IsControlledBy(has, d) && sameTemplate(&has.Spec.Template, &d.Spec.Template) {
			plan.Status = d.Status // decided on an old cache: the set's event brings the next plan
			return errNothingMade
		}
		plan.Status = *d.Status.DeepCopy()
		plan.Status.CollisionCount = ptr.To(ptr.Deref(d.Status.CollisionCount, 0) + 1)
		return fmt.Errorf("a replica set of that name belongs to another: %w", err)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return errNothingMade
	}
	c.recorder.Eventf(d, corev1.EventTypeWarning, reasonCreateError, "Failed to create new replica set %q: %v", s.Name, err)
	plan.Status = CreateFailed(d.Status, s.Name, err, c.env.Now())
	return err
}
