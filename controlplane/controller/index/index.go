// Package index names the indexes that controllers and scheduler share on the pod informer, and
// reads them. An index is added once, whoever asks first.
package index

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

const (
	byController = "coracle-controller-uid" // uid of the controller, or "orphans of NAMESPACE"
	byNode       = "coracle-node-name"
)

func orphans(namespace string) string { return "orphans of " + namespace }

// Ensure adds the index to the informer unless it has it already.
func ensure(informer cache.SharedIndexInformer, name string, f cache.IndexFunc) error {
	if _, ok := informer.GetIndexer().GetIndexers()[name]; ok {
		return nil
	}
	if err := informer.AddIndexers(cache.Indexers{name: f}); err != nil {
		if _, ok := informer.GetIndexer().GetIndexers()[name]; ok {
			return nil // somebody else was quicker
		}
		return fmt.Errorf("add index %s: %w", name, err)
	}
	return nil
}

// Controllers indexes objects of any kind by their controller.
func Controllers(informer cache.SharedIndexInformer) error {
	return ensure(informer, byController, func(obj any) ([]string, error) {
		o, ok := obj.(metav1.Object)
		if !ok {
			return nil, nil
		}
		if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
			return []string{string(ref.UID)}, nil
		}
		return []string{orphans(o.GetNamespace())}, nil
	})
}

// Candidates are the objects that uid controls and the namespace's objects that nothing controls.
func Candidates[T any](informer cache.SharedIndexInformer, namespace string, uid types.UID) ([]T, error) {
	var out []T
	for _, value := range []string{string(uid), orphans(namespace)} {
		found, err := read[T](informer, byController, value)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// Orphans are the namespace's objects that nothing controls.
func Orphans[T any](informer cache.SharedIndexInformer, namespace string) ([]T, error) {
	return read[T](informer, byController, orphans(namespace))
}

// Nodes indexes pods by spec.nodeName.
func Nodes(informer cache.SharedIndexInformer) error {
	return ensure(informer, byNode, func(obj any) ([]string, error) {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
			return []string{pod.Spec.NodeName}, nil
		}
		return nil, nil
	})
}

// OnNode are the pods bound to a node.
func OnNode(informer cache.SharedIndexInformer, node string) ([]*corev1.Pod, error) {
	return read[*corev1.Pod](informer, byNode, node)
}

func read[T any](informer cache.SharedIndexInformer, index, value string) ([]T, error) {
	objs, err := informer.GetIndexer().ByIndex(index, value)
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", index, err)
	}
	out := make([]T, 0, len(objs))
	for _, obj := range objs {
		if o, ok := obj.(T); ok {
			out = append(out, o)
		}
	}
	return out, nil
}
