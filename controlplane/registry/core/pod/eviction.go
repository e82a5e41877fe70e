package pod

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/storage"
	storeerr "k8s.io/apiserver/pkg/storage/errors"
	"k8s.io/apiserver/pkg/util/dryrun"

	"coracle/controlplane/api/policy"
)

// Eviction serves pods/NAME/eviction. PodDisruptionBudgets are not served, so every eviction is allowed.
type Eviction struct{ store *REST }

var (
	_ rest.NamedCreater             = &Eviction{}
	_ rest.GroupVersionKindProvider = &Eviction{}
)

// GroupVersionKind implements rest.GroupVersionKindProvider: the object is of policy/v1 though its path is in v1.
func (r *Eviction) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return policyv1.SchemeGroupVersion.WithKind("Eviction")
}

// New implements rest.Storage.
func (r *Eviction) New() runtime.Object { return &policyv1.Eviction{} }

// Destroy does nothing: the connection belongs to the pods' storage.
func (r *Eviction) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (r *Eviction) NamespaceScoped() bool { return true }

// Create evicts the pod called name.
func (r *Eviction) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	eviction, ok := obj.(*policyv1.Eviction)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("want an Eviction, got %T", obj))
	}
	if name != eviction.Name {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the name in the URL (%s) does not match the name in the Eviction (%s)", name, eviction.Name))
	}
	if errs := policy.ValidateEviction(eviction); len(errs) > 0 {
		return nil, apierrors.NewInvalid(policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), name, errs)
	}
	deletion := eviction.DeleteOptions
	if deletion == nil {
		deletion = &metav1.DeleteOptions{}
	}
	deletion = deletion.DeepCopy()
	if len(deletion.DryRun) == 0 {
		deletion.DryRun = options.DryRun
	} else if !slices.Equal(deletion.DryRun, options.DryRun) && len(options.DryRun) > 0 {
		return nil, apierrors.NewBadRequest("dryRun of the request and of deleteOptions differ")
	}
	if validate != nil {
		if err := validate(ctx, eviction.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	if err := r.evict(ctx, name, deletion); err != nil {
		return nil, err
	}
	return &metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusCreated}, nil
}

func (r *Eviction) evict(ctx context.Context, name string, options *metav1.DeleteOptions) error {
	found, err := r.store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return err
	}
	pod := found.(*corev1.Pod)
	if options.Preconditions != nil && options.Preconditions.UID != nil && *options.Preconditions.UID != pod.UID {
		return apierrors.NewConflict(corev1.Resource("pods"), name, fmt.Errorf("the UID in the precondition (%s) is not that of the pod (%s)", *options.Preconditions.UID, pod.UID))
	}
	dry := dryrun.IsDryRun(options.DryRun)
	// From here on the pod that was judged is meant, not another one of its name.
	options.Preconditions = &metav1.Preconditions{UID: &pod.UID}
	if err := r.mark(ctx, name, options.Preconditions, dry); err != nil {
		return err
	}
	_, _, err = r.store.Delete(ctx, name, rest.ValidateAllObjectFunc, options)
	return err
}

// mark puts the reason of its end on the pod, for those that watch it go.
func (r *Eviction) mark(ctx context.Context, name string, preconditions *metav1.Preconditions, dry bool) error {
	key, err := r.store.KeyFunc(ctx, name)
	if err != nil {
		return err
	}
	err = r.store.Storage.GuaranteedUpdate(ctx, key, &corev1.Pod{}, false, &storage.Preconditions{UID: preconditions.UID},
		storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
			pod := existing.(*corev1.Pod)
			if pod.DeletionTimestamp == nil {
				setCondition(pod, corev1.PodCondition{
					Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
					Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting", ObservedGeneration: pod.Generation,
				}, metav1.Now())
			}
			return pod, nil
		}), dry, nil)
	if err != nil {
		return storeerr.InterpretUpdateError(err, corev1.Resource("pods"), name)
	}
	return nil
}
