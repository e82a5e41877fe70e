package replicaset

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"coracle/controlplane/controller/index"
	"coracle/controlplane/controller/owner"
)

// parallel bounds the calls under way at once for one set.
const parallel = 16

// hold adopts and releases pods by the selector and returns those that the set holds afterwards.
func (c *Controller) hold(ctx context.Context, set *appsv1.ReplicaSet, selector labels.Selector) ([]*corev1.Pod, error) {
	candidates, err := index.Candidates[*corev1.Pod](c.pods, set.Namespace, set.UID)
	if err != nil {
		return nil, err
	}
	live := candidates[:0:0]
	for _, p := range candidates {
		// Finished pods are held too where they are the set's own, but never adopted.
		if metav1.IsControlledBy(p, set) || (p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed) {
			live = append(live, p)
		}
	}
	claim := owner.Sort(set, selector, live)
	pods := claim.Held
	if len(claim.Adopt) > 0 {
		if err := c.stillThere(ctx, set); err != nil {
			return nil, err
		}
		patch := func(p *corev1.Pod) ([]byte, error) { return owner.AdoptPatch(p.UID, owner.Reference(set, kind)) }
		for _, p := range claim.Adopt {
			adopted, err := c.patch(ctx, p, patch)
			if err != nil {
				return nil, fmt.Errorf("adopt pod %s/%s: %w", p.Namespace, p.Name, err)
			}
			if adopted != nil {
				pods = append(pods, adopted)
			}
		}
	}
	for _, p := range claim.Release {
		if _, err := c.patch(ctx, p, func(p *corev1.Pod) ([]byte, error) { return owner.ReleasePatch(p.UID, set.UID) }); err != nil {
			return nil, fmt.Errorf("release pod %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	return pods, nil
}

// stillThere looks at the set itself and not at the cache: adopting for a set that was deleted
// meanwhile would hand its pods to nobody.
func (c *Controller) stillThere(ctx context.Context, set *appsv1.ReplicaSet) error {
	fresh, err := c.client.AppsV1().ReplicaSets(set.Namespace).Get(ctx, set.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("look at replica set %s/%s before adopting: %w", set.Namespace, set.Name, err)
	}
	if fresh.UID != set.UID || fresh.DeletionTimestamp != nil {
		return fmt.Errorf("replica set %s/%s was deleted or replaced: not adopting for it", set.Namespace, set.Name)
	}
	return nil
}

// patch returns nil without an error where the pod is gone or is another one by now.
func (c *Controller) patch(ctx context.Context, p *corev1.Pod, encode func(*corev1.Pod) ([]byte, error)) (*corev1.Pod, error) {
	raw, err := encode(p)
	if err != nil {
		return nil, err
	}
	patched, err := c.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, raw, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil, nil //nolint:nilerr // gone, or not ours any more: nothing left to patch
	}
	return patched, err
}

func (c *Controller) execute(ctx context.Context, set *appsv1.ReplicaSet, p Plan) Outcome {
	if p.Create > 0 {
		return Outcome{Err: c.create(ctx, set, p.Create)}
	}
	if len(p.Delete) > 0 {
		return Outcome{Err: c.delete(ctx, set, p.Delete), Deleting: true}
	}
	return Outcome{}
}

// create makes n pods in batches that double in size, and stops at the first batch with an error:
// where one is refused (quota, admission) the others would be too.
func (c *Controller) create(ctx context.Context, set *appsv1.ReplicaSet, n int) error {
	c.expected.Expect(string(set.UID), n, nil, c.env.Now())
	for batch := 1; n > 0; batch *= 2 {
		size := min(batch, n)
		var group errgroup.Group
		group.SetLimit(parallel)
		for range size {
			group.Go(func() error { return c.createOne(ctx, set) })
		}
		n -= size
		if err := group.Wait(); err != nil {
			c.expected.Created(string(set.UID), n) // these were never tried
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil
			}
			return err
		}
	}
	return nil
}

func (c *Controller) createOne(ctx context.Context, set *appsv1.ReplicaSet) error {
	pod, err := c.client.CoreV1().Pods(set.Namespace).Create(ctx, newPod(set), metav1.CreateOptions{})
	if err != nil {
		c.expected.Created(string(set.UID), 1)
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.recorder.Eventf(set, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		}
		return fmt.Errorf("create a pod of replica set %s/%s: %w", set.Namespace, set.Name, err)
	}
	c.recorder.Eventf(set, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", pod.Name)
	return nil
}

// newPod is a pod after the set's template.
func newPod(set *appsv1.ReplicaSet) *corev1.Pod {
	t := set.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName:    set.Name + "-",
			Namespace:       set.Namespace,
			Labels:          t.Labels,
			Annotations:     t.Annotations,
			Finalizers:      t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{owner.Reference(set, kind)},
		},
		Spec: t.Spec,
	}
}

func (c *Controller) delete(ctx context.Context, set *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	uids := make([]types.UID, len(pods))
	for i, p := range pods {
		uids[i] = p.UID
	}
	c.expected.Expect(string(set.UID), 0, uids, c.env.Now())
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, p := range pods {
		group.Go(func() error {
			err := c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}})
			if err == nil {
				c.recorder.Eventf(set, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", p.Name)
				return nil
			}
			c.expected.Deleted(string(set.UID), p.UID)
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				return nil // gone already
			}
			c.recorder.Eventf(set, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
			return fmt.Errorf("delete pod %s/%s: %w", p.Namespace, p.Name, err)
		})
	}
	return group.Wait()
}
