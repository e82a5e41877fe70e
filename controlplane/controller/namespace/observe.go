package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/ptr"
)

// served is a namespaced resource and what may be done with it.
type served struct {
	gvr   schema.GroupVersionResource
	verbs []string
}

// discover lists the namespaced resources whose objects can be deleted, one version of each.
func discover(client discovery.DiscoveryInterface, found *Content) []served {
	lists, err := discovery.ServerPreferredNamespacedResources(client)
	if err != nil {
		found.Discovery, found.Groups = err, 1
		var groups *discovery.ErrGroupDiscoveryFailed
		if errors.As(err, &groups) {
			found.Groups = len(groups.Groups)
		}
	}
	var out []served
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			found.Unparsed = append(found.Unparsed, list.GroupVersion)
			continue
		}
		for _, r := range list.APIResources {
			if !r.Namespaced || strings.Contains(r.Name, "/") || !slices.Contains([]string(r.Verbs), "delete") {
				continue
			}
			// Events are the same objects in two groups: one deletion is enough.
			if gv.Group == "events.k8s.io" {
				continue
			}
			out = append(out, served{gv.WithResource(r.Name), r.Verbs})
		}
	}
	return out
}

// empty asks for the deletion of everything in the namespace and finds out what is left.
func empty(ctx context.Context, d discovery.DiscoveryInterface, m metadata.Interface, pods podLister, namespace string) Content {
	found := Content{Failed: map[schema.GroupVersionResource]error{}, Left: map[schema.GroupVersionResource]Remaining{}}
	for _, r := range discover(d, &found) {
		if ctx.Err() != nil {
			found.Discovery = ctx.Err()
			return found
		}
		left, err := emptyOne(ctx, m, r, namespace)
		if err != nil {
			found.Failed[r.gvr] = err
			continue
		}
		if left.Count > 0 {
			if r.gvr.Group == "" && r.gvr.Resource == "pods" {
				left.Wait = longestGrace(pods, namespace)
			}
			found.Left[r.gvr] = left
		}
	}
	return found
}

// emptyOne deletes the objects of one resource and counts those that stay.
func emptyOne(ctx context.Context, m metadata.Interface, r served, namespace string) (Remaining, error) {
	api := m.Resource(r.gvr).Namespace(namespace)
	if !slices.Contains(r.verbs, "list") {
		return Remaining{}, nil // what cannot be listed cannot be found
	}
	list, err := api.List(ctx, metav1.ListOptions{})
	if skip(err) {
		return Remaining{}, nil
	}
	if err != nil {
		return Remaining{}, fmt.Errorf("list %s: %w", r.gvr.GroupResource(), err)
	}
	if len(list.Items) == 0 {
		return Remaining{}, nil
	}
	background := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}
	collected := false
	if slices.Contains(r.verbs, "deletecollection") {
		err := api.DeleteCollection(ctx, background, metav1.ListOptions{})
		if err != nil && !apierrors.IsMethodNotSupported(err) && !apierrors.IsNotFound(err) {
			return Remaining{}, fmt.Errorf("delete all %s: %w", r.gvr.GroupResource(), err)
		}
		collected = err == nil
	}
	for i := range list.Items {
		if o := &list.Items[i]; !collected && o.DeletionTimestamp == nil {
			if err := api.Delete(ctx, o.Name, background); err != nil && !apierrors.IsNotFound(err) {
				return Remaining{}, fmt.Errorf("delete %s %s: %w", r.gvr.GroupResource(), o.Name, err)
			}
		}
	}
	if list, err = api.List(ctx, metav1.ListOptions{}); err != nil {
		if skip(err) {
			return Remaining{}, nil
		}
		return Remaining{}, fmt.Errorf("list %s again: %w", r.gvr.GroupResource(), err)
	}
	left := Remaining{Count: len(list.Items), Finalizers: map[string]int{}}
	for i := range list.Items {
		for _, f := range list.Items[i].Finalizers {
			left.Finalizers[f]++
		}
	}
	return left, nil
}

// skip is true where a resource was served at discovery and is not any more, or cannot be listed.
func skip(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) }

// podLister reads the pods of a namespace from a cache.
type podLister interface {
	pods(namespace string) []*corev1.Pod
}

// longestGrace is how long the namespace's pods may take to end.
func longestGrace(lister podLister, namespace string) time.Duration {
	var longest int64
	for _, p := range lister.pods(namespace) {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		longest = max(longest, ptr.Deref(p.DeletionGracePeriodSeconds, ptr.Deref(p.Spec.TerminationGracePeriodSeconds, 0)))
	}
	return time.Duration(longest) * time.Second
}
