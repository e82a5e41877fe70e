// Package pod serves pods and their subresources that change the stored object: status, binding, eviction,
// ephemeralcontainers and resize. Streaming subresources (exec, log, …) belong to package podstream.
//
// One writer per field is enforced here: the main resource never touches status, status never touches spec, binding alone
// sets spec.nodeName, and ephemeralcontainers and resize change nothing but their own fields.
package pod

import (
	"context"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/core"
	"coracle/controlplane/registry/kind"
)

// Pods describes pods.
func Pods() kind.Kind[*corev1.Pod] {
	return kind.Kind[*corev1.Pod]{
		Versions: []string{"v1"}, Resource: "pods", Singular: "pod", Short: []string{"po"}, Categories: []string{"all"},
		New:     func() *corev1.Pod { return &corev1.Pod{} },
		NewList: func() runtime.Object { return &corev1.PodList{} },
		Fields:  Fields,
		Indexed: []string{"spec.nodeName"},
		Main: kind.Strategy[*corev1.Pod]{
			Create:         prepareCreate,
			Update:         prepareUpdate,
			Validate:       core.ValidatePod,
			ValidateUpdate: core.ValidatePodUpdate,
			Reset:          []string{"status"},
			Graceful:       Graceful,
			Warn:           Warn,
		},
		Status: &kind.Strategy[*corev1.Pod]{
			Update:         prepareStatus,
			ValidateUpdate: core.ValidatePodStatusUpdate,
			Reset:          []string{"spec", "metadata.deletionTimestamp", "metadata.ownerReferences"},
		},
	}
}

func ephemeral() kind.Strategy[*corev1.Pod] {
	return kind.Strategy[*corev1.Pod]{Update: prepareEphemeral, ValidateUpdate: core.ValidatePodEphemeralContainersUpdate}
}

func resize() kind.Strategy[*corev1.Pod] {
	return kind.Strategy[*corev1.Pod]{Update: prepareResize, ValidateUpdate: core.ValidatePodResize}
}

// Fields are the fields pods can be selected by.
func Fields(p *corev1.Pod) fields.Set {
	podIP := p.Status.PodIP
	if podIP == "" && len(p.Status.PodIPs) > 0 {
		podIP = p.Status.PodIPs[0].IP
	}
	return fields.Set{
		"spec.nodeName":            p.Spec.NodeName,
		"spec.restartPolicy":       string(p.Spec.RestartPolicy),
		"spec.schedulerName":       p.Spec.SchedulerName,
		"spec.serviceAccountName":  p.Spec.ServiceAccountName,
		"spec.hostNetwork":         strconv.FormatBool(p.Spec.HostNetwork),
		"status.phase":             string(p.Status.Phase),
		"status.podIP":             podIP,
		"status.nominatedNodeName": p.Status.NominatedNodeName,
	}
}

func prepareCreate(_ context.Context, obj *corev1.Pod) {
	obj.Generation = 1
	obj.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: QOS(obj)}
	mergeLabelKeys(obj)
	if len(obj.Spec.SchedulingGates) > 0 {
		obj.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
			Reason:  corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",
		}}
	}
}

func prepareUpdate(_ context.Context, obj, old *corev1.Pod) {
	obj.Status = old.Status
	bump(obj, old)
}

// prepareStatus lets the node report its status and nothing else. Owner references and deletion are the API server's.
func prepareStatus(_ context.Context, obj, old *corev1.Pod) {
	obj.Spec = old.Spec
	obj.DeletionTimestamp = nil
	obj.OwnerReferences = old.OwnerReferences
	if obj.Status.QOSClass == "" {
		obj.Status.QOSClass = old.Status.QOSClass
	}
	if obj.Status.ObservedGeneration == 0 {
		obj.Status.ObservedGeneration = old.Status.ObservedGeneration
	}
	alignIPs(&obj.Status)
}

// alignIPs keeps the single and plural address fields of one status in step, whichever of them the client knows.
func alignIPs(s *corev1.PodStatus) {
	switch {
	case s.PodIP != "" && len(s.PodIPs) == 0:
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	case s.PodIP == "" && len(s.PodIPs) > 0:
		s.PodIP = s.PodIPs[0].IP
	}
	switch {
	case s.HostIP != "" && len(s.HostIPs) == 0:
		s.HostIPs = []corev1.HostIP{{IP: s.HostIP}}
	case s.HostIP == "" && len(s.HostIPs) > 0:
		s.HostIP = s.HostIPs[0].IP
	}
}

// prepareEphemeral takes from the client the ephemeral containers alone.
func prepareEphemeral(_ context.Context, obj, old *corev1.Pod) {
	wanted := obj.Spec.EphemeralContainers
	meta := obj.ObjectMeta
	old.DeepCopyInto(obj)
	keepRequestMeta(obj, meta)
	obj.Spec.EphemeralContainers = wanted
	bump(obj, old)
}

// prepareResize takes from the client the resources and resize policies of existing containers alone.
func prepareResize(_ context.Context, obj, old *corev1.Pod) {
	wanted := obj.Spec
	meta := obj.ObjectMeta
	old.DeepCopyInto(obj)
	keepRequestMeta(obj, meta)
	copyResources(obj.Spec.Containers, wanted.Containers)
	copyResources(obj.Spec.InitContainers, wanted.InitContainers)
	if wanted.Resources != nil || obj.Spec.Resources != nil {
		obj.Spec.Resources = wanted.Resources
	}
	bump(obj, old)
}

// keepRequestMeta puts back what concurrency control and managed fields need from the request.
func keepRequestMeta(obj *corev1.Pod, request metav1.ObjectMeta) {
	obj.ResourceVersion = request.ResourceVersion
	obj.UID = request.UID
	obj.ManagedFields = request.ManagedFields
}

func copyResources(to, from []corev1.Container) {
	for i := range to {
		for j := range from {
			if to[i].Name == from[j].Name {
				to[i].Resources = from[j].Resources
				to[i].ResizePolicy = from[j].ResizePolicy
				break
			}
		}
	}
}

func bump(obj, old *corev1.Pod) {
	obj.Generation = old.Generation
	if !apiequality.Semantic.DeepEqual(obj.Spec, old.Spec) {
		obj.Generation++
	}
}
