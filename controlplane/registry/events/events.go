// Package events serves events. One storage, of core/v1 events, is served in the core group and in events.k8s.io; the
// scheme converts. Events expire an hour after their last write and have no watch cache.
package events

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/api/core"
	"coracle/controlplane/api/events"
	"coracle/controlplane/registry/kind"
)

// keep is an event's life in seconds.
const keep = 3600

// Events describes events.
func Events() kind.Kind[*corev1.Event] {
	return kind.Kind[*corev1.Event]{
		Versions: []string{"v1", eventsv1.SchemeGroupVersion.String()},
		Resource: "events", Singular: "event", Short: []string{"ev"},
		New:     func() *corev1.Event { return &corev1.Event{} },
		NewList: func() runtime.Object { return &corev1.EventList{} },
		Fields:  Fields,
		TTL:     keep,
		Main: kind.Strategy[*corev1.Event]{
			ValidateIn: validate, ValidateUpdateIn: validateUpdate,
			CreateOnUpdate: true,
			Collection:     rest.Unsupported,
		},
	}
}

// newGroup reports whether the request came through events.k8s.io, whose rules are stricter.
func newGroup(ctx context.Context) bool {
	info, ok := request.RequestInfoFrom(ctx)
	return ok && info.APIGroup == eventsv1.GroupName
}

func validate(ctx context.Context, e *corev1.Event) field.ErrorList {
	if newGroup(ctx) {
		return events.ValidateEvent(e)
	}
	return core.ValidateEvent(e)
}

func validateUpdate(ctx context.Context, e, old *corev1.Event) field.ErrorList {
	if newGroup(ctx) {
		return events.ValidateEventUpdate(e, old)
	}
	return core.ValidateEventUpdate(e, old)
}

// Fields are the fields events can be selected by.
func Fields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	return fields.Set{
		"involvedObject.kind":            e.InvolvedObject.Kind,
		"involvedObject.namespace":       e.InvolvedObject.Namespace,
		"involvedObject.name":            e.InvolvedObject.Name,
		"involvedObject.uid":             string(e.InvolvedObject.UID),
		"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
		"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
		"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         source,
		"type":                           e.Type,
	}
}
