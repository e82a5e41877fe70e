package pod

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"

	"coracle/controlplane/api/core"
)

// Binding serves pods/NAME/binding: it assigns a pod to a node, once.
type Binding struct{ store *genericregistry.Store }

// LegacyBinding serves the same at bindings, where the pod is named in the body.
type LegacyBinding struct{ *Binding }

var (
	_ rest.NamedCreater = &Binding{}
	_ rest.Creater      = &LegacyBinding{}
)

// New implements rest.Storage.
func (r *Binding) New() runtime.Object { return &corev1.Binding{} }

// Destroy does nothing: the connection belongs to the pods' storage.
func (r *Binding) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (r *Binding) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider.
func (r *Binding) GetSingularName() string { return "binding" }

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate keeps the uid and resourceVersion the scheduler sends: they
// are preconditions on the pod.
func (r *Binding) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// Create on the legacy resource takes the pod's name from the object.
func (r *LegacyBinding) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	binding, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("want a Binding, got %T", obj))
	}
	return r.Binding.Create(ctx, binding.Name, obj, validate, options)
}

// Create assigns the pod called name.
func (r *Binding) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	binding, ok := obj.(*corev1.Binding)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("want a Binding, got %T", obj))
	}
	if name != binding.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name in the URL (%s) does not match the name in the Binding (%s)", name, binding.Name))
	}
	if errs := core.ValidateBinding(binding); len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Binding").GroupKind(), name, errs)
	}
	if validate != nil {
		if err := validate(ctx, binding.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.assign(ctx, name, binding, dryrun.IsDryRun(options.DryRun)); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
}

func (r *Binding) assign(ctx context.Context, name string, binding *corev1.Binding, dry bool) error {
	key, err := r.store.KeyFunc(ctx, name)
	if err != nil {
		return err
	}
	var preconditions *storage.Preconditions
	if binding.UID != "" || binding.ResourceVersion != "" {
		preconditions = &storage.Preconditions{}
		if binding.UID != "" {
			preconditions.UID = ptrTo(binding.UID)
		}
		if binding.ResourceVersion != "" {
			preconditions.ResourceVersion = &binding.ResourceVersion
		}
	}
	var refused error
	err = r.store.Storage.GuaranteedUpdate(ctx, key, &corev1.Pod{}, false, preconditions, storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
		pod := existing.(*corev1.Pod)
		if refused = Assign(pod, binding); refused != nil {
			return nil, refused
		}
		return pod, nil
	}), dry, nil)
	switch {
	case err == nil:
		return nil
	case refused != nil && errors.Is(err, refused):
		return apierrors.NewConflict(corev1.Resource("pods/binding"), name, err)
	}
	return storeerr.InterpretUpdateError(err, corev1.Resource("pods/binding"), name)
}

// Assign puts the binding's node and annotations on the pod and marks it scheduled. The error says why the pod cannot be
// bound; the pod is then unchanged.
func Assign(pod *corev1.Pod, binding *corev1.Binding) error {
	switch {
	case pod.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name)
	case pod.Spec.NodeName != "":
		return fmt.Errorf("pod %s is already assigned to node %q", pod.Name, pod.Spec.NodeName)
	case len(pod.Spec.SchedulingGates) > 0:
		return fmt.Errorf("pod %s has non-empty .spec.schedulingGates", pod.Name)
	}
	pod.Spec.NodeName = binding.Target.Name
	// Binding is no change a node has to act on: the generation stays (KEP-5067).
	pod.Annotations = overlay(pod.Annotations, binding.Annotations)
	pod.Labels = overlay(pod.Labels, binding.Labels)
	setCondition(pod, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation}, metav1.Now())
	return nil
}

func overlay(onto, from map[string]string) map[string]string {
	if onto == nil && len(from) > 0 {
		onto = map[string]string{}
	}
	for k, v := range from {
		onto[k] = v
	}
	return onto
}

// setCondition replaces the condition of the same type; the transition time moves only when the status does.
func setCondition(pod *corev1.Pod, c corev1.PodCondition, now metav1.Time) {
	c.LastTransitionTime = now
	for i, old := range pod.Status.Conditions {
		if old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			pod.Status.Conditions[i] = c
			return
		}
	}
	pod.Status.Conditions = append(pod.Status.Conditions, c)
}

func ptrTo[T any](v T) *T { return &v }
