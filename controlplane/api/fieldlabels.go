package api

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	eventsv1 "k8s.io/api/events/v1"
)

// metaLabels are the field selectors that every kind answers.
var metaLabels = []string{metav1.ObjectNameField, "metadata.namespace"}

// fieldLabels lists, for each kind with field selectors of its own, which it
// answers beyond metaLabels. A strategy's selectable fields must match.
var fieldLabels = map[schema.GroupVersionKind][]string{
	corev1.SchemeGroupVersion.WithKind("Pod"): {
		"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
		"status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
	},
	corev1.SchemeGroupVersion.WithKind("Node"):                  {"spec.unschedulable"},
	corev1.SchemeGroupVersion.WithKind("Namespace"):             {"status.phase"},
	corev1.SchemeGroupVersion.WithKind("Secret"):                {"type"},
	corev1.SchemeGroupVersion.WithKind("Service"):               {"spec.clusterIP", "spec.type"},
	corev1.SchemeGroupVersion.WithKind("ReplicationController"): {"status.replicas"},
	corev1.SchemeGroupVersion.WithKind("Event"): {
		"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
		"involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
		"reason", "reportingComponent", "source", "type",
	},
	appsv1.SchemeGroupVersion.WithKind("ReplicaSet"):                        {"status.replicas"},
	batchv1.SchemeGroupVersion.WithKind("Job"):                              {"status.successful"},
	certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"): {"spec.signerName"},
}

// eventLabels maps the selectors of events.k8s.io/v1 to those of the hub.
var eventLabels = map[string]string{
	"reason":                    "reason",
	"regarding.kind":            "involvedObject.kind",
	"regarding.namespace":       "involvedObject.namespace",
	"regarding.name":            "involvedObject.name",
	"regarding.uid":             "involvedObject.uid",
	"regarding.apiVersion":      "involvedObject.apiVersion",
	"regarding.resourceVersion": "involvedObject.resourceVersion",
	"regarding.fieldPath":       "involvedObject.fieldPath",
	"reportingController":       "reportingComponent",
	"type":                      "type",
	metav1.ObjectNameField:      metav1.ObjectNameField,
	"metadata.namespace":        "metadata.namespace",
}

// addFieldLabels registers which field selectors each kind answers.
func addFieldLabels(s *runtime.Scheme) error {
	for gvk, labels := range fieldLabels {
		allowed := map[string]string{}
		for _, l := range append(labels[:len(labels):len(labels)], metaLabels...) {
			allowed[l] = l
		}
		if gvk.Kind == "Pod" {
			// An old spelling that clients of the first API version still send.
			allowed["spec.host"] = "spec.nodeName"
		}
		if err := s.AddFieldLabelConversionFunc(gvk, labelConversion(allowed)); err != nil {
			return fmt.Errorf("register field labels of %s: %w", gvk.Kind, err)
		}
	}
	event := eventsv1.SchemeGroupVersion.WithKind("Event")
	if err := s.AddFieldLabelConversionFunc(event, labelConversion(eventLabels)); err != nil {
		return fmt.Errorf("register field labels of events.k8s.io Event: %w", err)
	}
	return nil
}

// labelConversion answers the labels in the map and refuses all others, in the words that clients look for.
func labelConversion(allowed map[string]string) runtime.FieldLabelConversionFunc {
	return func(label, value string) (string, string, error) {
		to, ok := allowed[label]
		if !ok {
			return "", "", fmt.Errorf("field label not supported: %s", label)
		}
		return to, value, nil
	}
}
