package pod

import (
	"context"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	corev1 "k8s.io/api/core/v1"

	"coracle/controlplane/registry/kind"
)

// REST serves pods. It differs from other kinds' in how it deletes.
//
// The registry asks Graceful for the grace period first with the stored pod, then with the one in its cache, then, where
// that was stale, with the stored one again; and each answer goes into the same options. The answer for a stale pod that
// had no node yet, zero, would then look like the client's wish, and a pod that was bound a moment ago would be deleted
// under the node that runs it. So the client's wish travels beside the options.
type REST struct{ *kind.REST }

type wishKey struct{}

// withWish puts the client's own grace period, nil for none, into the context.
func withWish(ctx context.Context, options *metav1.DeleteOptions) context.Context {
	var wish *int64
	if options != nil && options.GracePeriodSeconds != nil {
		wish = ptrTo(*options.GracePeriodSeconds)
	}
	return context.WithValue(ctx, wishKey{}, wish)
}

// Delete implements rest.GracefulDeleter.
func (r *REST) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if options == nil {
		options = metav1.NewDeleteOptions(0)
	}
	return r.REST.Delete(withWish(ctx, options), name, validate, options)
}

// DeleteCollection implements rest.CollectionDeleter.
func (r *REST) DeleteCollection(ctx context.Context, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions, list *metainternalversion.ListOptions) (runtime.Object, error) {
	return r.REST.DeleteCollection(withWish(ctx, options), validate, options, list)
}

// Graceful sets the grace period of a deletion: the client's, else the pod's own; none for a pod that no node runs.
func Graceful(ctx context.Context, p *corev1.Pod, options *metav1.DeleteOptions) bool {
	if options == nil {
		return false
	}
	wish := options.GracePeriodSeconds
	if w, ok := ctx.Value(wishKey{}).(*int64); ok {
		wish = w
	}
	period := GracePeriod(p, wish)
	options.GracePeriodSeconds = &period
	return true
}

// GracePeriod is how many seconds a pod gets; wish is the client's, nil for none.
func GracePeriod(p *corev1.Pod, wish *int64) int64 {
	finished := p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodSucceeded
	if p.Spec.NodeName == "" || finished {
		return 0
	}
	var period int64
	switch {
	case wish != nil:
		period = *wish
	case p.Spec.TerminationGracePeriodSeconds != nil:
		period = *p.Spec.TerminationGracePeriodSeconds
	}
	if period < 0 {
		return 1
	}
	return period
}
