package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/kubernetes"
	nodelisters "k8s.io/client-go/listers/node/v1"
)

// errOverheadDiffers is said of a pod that brings an overhead of its own.
var errOverheadDiffers = errors.New("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

// SetRuntimeClass gives pod what class asks of every pod that names it: the overhead of the sandbox and where such pods
// can run. What the pod brings itself must agree. It changes pod.
func SetRuntimeClass(pod *corev1.Pod, class *nodev1.RuntimeClass) error {
	if class.Overhead != nil {
		if pod.Spec.Overhead != nil && !apiequality.Semantic.DeepEqual(pod.Spec.Overhead, class.Overhead.PodFixed) {
			return errOverheadDiffers
		}
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if have, ok := pod.Spec.NodeSelector[key]; ok && have != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, have)
		}
	}
	if pod.Spec.NodeSelector == nil && len(class.Scheduling.NodeSelector) > 0 {
		pod.Spec.NodeSelector = map[string]string{}
	}
	for key, value := range class.Scheduling.NodeSelector {
		pod.Spec.NodeSelector[key] = value
	}
	pod.Spec.Tolerations = mergeTolerations(pod.Spec.Tolerations, class.Scheduling.Tolerations)
	return nil
}

// CheckOverhead judges the overhead of pod after all steps; class is nil where the pod names none.
func CheckOverhead(pod *corev1.Pod, class *nodev1.RuntimeClass) error {
	if class != nil && class.Overhead != nil {
		if !apiequality.Semantic.DeepEqual(pod.Spec.Overhead, class.Overhead.PodFixed) {
			return errOverheadDiffers
		}
		return nil
	}
	if pod.Spec.Overhead != nil {
		return errors.New("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
	}
	return nil
}

// mergeTolerations is both lists without what another of them covers already.
func mergeTolerations(pod, class []corev1.Toleration) []corev1.Toleration {
	all := append(pod[:len(pod):len(pod)], class...)
	var merged []corev1.Toleration
	for i := range all {
		if !coveredBy(merged, all[i], false) && !coveredBy(all[i+1:], all[i], true) {
			merged = append(merged, all[i])
		}
	}
	return merged
}

// coveredBy says whether one of others tolerates all that t does; of equal ones the first is kept, so the later do not
// count where skipEqual is set.
func coveredBy(others []corev1.Toleration, t corev1.Toleration, skipEqual bool) bool {
	for _, o := range others {
		equal := apiequality.Semantic.DeepEqual(o, t)
		if (equal && !skipEqual) || (!equal && covers(o, t)) {
			return true
		}
	}
	return false
}

// covers says whether wide tolerates every taint that narrow does, for at least as long.
func covers(wide, narrow corev1.Toleration) bool {
	if narrow.Key != wide.Key && (wide.Key != "" || wide.Operator != corev1.TolerationOpExists) {
		return false
	}
	if narrow.Effect != wide.Effect && wide.Effect != "" {
		return false
	}
	if wide.Effect == corev1.TaintEffectNoExecute && wide.TolerationSeconds != nil &&
		(narrow.TolerationSeconds == nil || *narrow.TolerationSeconds > *wide.TolerationSeconds) {
		return false
	}
	switch wide.Operator {
	case corev1.TolerationOpExists:
		return true
	case corev1.TolerationOpEqual, "":
		return narrow.Operator == wide.Operator && narrow.Value == wide.Value
	}
	return false
}

// runtimeClass is the step around SetRuntimeClass and CheckOverhead.
type runtimeClass struct {
	*admission.Handler
	classes nodelisters.RuntimeClassLister
	client  kubernetes.Interface
}

func newRuntimeClass(c Config) *runtimeClass {
	return &runtimeClass{
		Handler: admission.NewHandler(admission.Create),
		classes: c.Informers.Node().V1().RuntimeClasses().Lister(), client: c.Client,
	}
}

// Admit implements admission.MutationInterface.
func (r *runtimeClass) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok || !isPod(a) || pod.Spec.RuntimeClassName == nil {
		return nil
	}
	class, err := r.class(ctx, a, *pod.Spec.RuntimeClassName)
	if err != nil {
		return err
	}
	if err := SetRuntimeClass(pod, class); err != nil {
		return admission.NewForbidden(a, err)
	}
	return nil
}

// Validate implements admission.ValidationInterface.
func (r *runtimeClass) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok || !isPod(a) {
		return nil
	}
	var class *nodev1.RuntimeClass
	if pod.Spec.RuntimeClassName != nil {
		var err error
		if class, err = r.class(ctx, a, *pod.Spec.RuntimeClassName); err != nil {
			return err
		}
	}
	if err := CheckOverhead(pod, class); err != nil {
		return admission.NewForbidden(a, err)
	}
	return nil
}

func (r *runtimeClass) class(ctx context.Context, a admission.Attributes, name string) (*nodev1.RuntimeClass, error) {
	class, err := r.classes.Get(name)
	if apierrors.IsNotFound(err) { // the informer may lag behind a class that was just made
		class, err = r.client.NodeV1().RuntimeClasses().Get(ctx, name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil, admission.NewForbidden(a, fmt.Errorf("pod rejected: RuntimeClass %q not found", name))
	}
	if err != nil {
		return nil, fmt.Errorf("read runtime class %s: %w", name, err)
	}
	return class, nil
}
