package core

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of the text in events.
const (
	MaxEventWord    = 128
	MaxEventMessage = 1024
)

// ValidateEvent judges an event written through the core API. Events of the old
// sort, without eventTime, need only agree with their object's namespace.
func ValidateEvent(e *corev1.Event) field.ErrorList {
	return ValidateEventFields(e, field.NewPath("reportingComponent"))
}

// ValidateEventUpdate judges an update through the core API.
func ValidateEventUpdate(e, _ *corev1.Event) field.ErrorList { return ValidateEvent(e) }

// ValidateEventFields holds what both event APIs check. They name the reporting
// controller's field differently.
func ValidateEventFields(e *corev1.Event, controller *field.Path) field.ErrorList {
	var errs field.ErrorList
	ns := e.InvolvedObject.Namespace
	at := field.NewPath("involvedObject", "namespace")
	if e.EventTime.IsZero() {
		fits := e.Namespace == ns
		if ns == "" {
			// Events on objects without a namespace live in the default one.
			fits = e.Namespace == "" || e.Namespace == metav1.NamespaceDefault
		}
		if !fits {
			errs = append(errs, field.Invalid(at, ns, "does not match event.namespace"))
		}
	} else {
		if ns == "" && e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem {
			errs = append(errs, field.Invalid(at, ns, "does not match event.namespace"))
		}
		errs = append(errs, required(e.ReportingController, controller)...)
		errs = append(errs, validateQualifiedName(e.ReportingController, controller)...)
		for _, f := range []struct{ name, value string }{{"reportingInstance", e.ReportingInstance}, {"action", e.Action}, {"reason", e.Reason}} {
			path := field.NewPath(f.name)
			errs = append(errs, required(f.value, path)...)
			if len(f.value) > MaxEventWord {
				errs = append(errs, field.Invalid(path, "", "can have at most 128 characters"))
			}
		}
		if len(e.Message) > MaxEventMessage {
			errs = append(errs, field.Invalid(field.NewPath("message"), "", "can have at most 1024 characters"))
		}
	}
	return append(errs, validateDNSSubdomain(e.Namespace, field.NewPath("namespace"))...)
}
