package admission

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/kubernetes"
	schedulinglisters "k8s.io/client-go/listers/scheduling/v1"
)

// Classes that every cluster knows, whether or not there is an object of that name.
const (
	classClusterCritical = "system-cluster-critical"
	classNodeCritical    = "system-node-critical"

	priorityClusterCritical = 2_000_000_000
	priorityNodeCritical    = priorityClusterCritical + 1000
)

// SetPriority puts the numbers that class stands for into pod; class is nil where the pod names none and there is no default.
// A number that the pod brings must agree. It changes pod.
func SetPriority(pod *corev1.Pod, class *schedulingv1.PriorityClass) error {
	value, preemption := int32(0), corev1.PreemptLowerPriority
	if class != nil {
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if class.PreemptionPolicy != nil {
			preemption = *class.PreemptionPolicy
		}
	}
	if have := pod.Spec.Priority; have != nil && *have != value {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name",
			*have, value)
	}
	if have := pod.Spec.PreemptionPolicy; have != nil && *have != preemption {
		return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name",
			*have, preemption)
	}
	pod.Spec.Priority, pod.Spec.PreemptionPolicy = &value, &preemption
	return nil
}

func builtinClass(name string) *schedulingv1.PriorityClass {
	value, ok := map[string]int32{classClusterCritical: priorityClusterCritical, classNodeCritical: priorityNodeCritical}[name]
	if !ok {
		return nil
	}
	return &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
}

// globalDefault chooses among classes marked as default the one of least value, as Kubernetes does.
func globalDefault(classes []*schedulingv1.PriorityClass) *schedulingv1.PriorityClass {
	var found *schedulingv1.PriorityClass
	for _, class := range classes {
		if class.GlobalDefault && (found == nil || class.Value < found.Value) {
			found = class
		}
	}
	return found
}

// priority is the step around SetPriority.
type priority struct {
	*admission.Handler
	classes schedulinglisters.PriorityClassLister
	client  kubernetes.Interface
}

func newPriority(c Config) *priority {
	return &priority{
		Handler: admission.NewHandler(admission.Create, admission.Update),
		classes: c.Informers.Scheduling().V1().PriorityClasses().Lister(), client: c.Client,
	}
}

// Admit implements admission.MutationInterface.
func (p *priority) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	if !ok || !isPod(a) {
		return nil
	}
	if a.GetOperation() == admission.Update {
		if old, ok := a.GetOldObject().(*corev1.Pod); ok {
			keepPriority(pod, old)
		}
		return nil
	}
	class, err := p.class(ctx, pod.Spec.PriorityClassName)
	if apierrors.IsNotFound(err) {
		return admission.NewForbidden(a, fmt.Errorf("no PriorityClass with name %v was found", pod.Spec.PriorityClassName))
	}
	if err != nil {
		return fmt.Errorf("read priority class: %w", err)
	}
	if err := SetPriority(pod, class); err != nil {
		return admission.NewForbidden(a, err)
	}
	return nil
}

// keepPriority fills in what an update left out; it is immutable and clients that know neither field must not trip over it.
func keepPriority(pod, old *corev1.Pod) {
	if pod.Spec.Priority == nil && old.Spec.Priority != nil && pod.Spec.PriorityClassName == old.Spec.PriorityClassName {
		pod.Spec.Priority = old.Spec.Priority
	}
	if pod.Spec.PreemptionPolicy == nil && old.Spec.PreemptionPolicy != nil {
		pod.Spec.PreemptionPolicy = old.Spec.PreemptionPolicy
	}
}

func (p *priority) class(ctx context.Context, name string) (*schedulingv1.PriorityClass, error) {
	if class := builtinClass(name); class != nil {
		return class, nil
	}
	if name != "" {
		class, err := p.classes.Get(name)
		if apierrors.IsNotFound(err) { // the informer may lag behind a class that was just made
			return p.client.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{})
		}
		return class, err
	}
	classes, err := p.classes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	return globalDefault(classes), nil
}
