package events

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

func event(change func(e *corev1.Event)) *corev1.Event {
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "ns", ResourceVersion: "1"}, InvolvedObject: corev1.ObjectReference{Namespace: "ns", Name: "p"},
		EventTime: metav1.NewMicroTime(time.Unix(1, 0)), ReportingController: "x.dev/agent", ReportingInstance: "n", Action: "Pull", Reason: "Pulled", Type: "Normal",
	}
	if change != nil {
		change(e)
	}
	return e
}

func TestEvent(t *testing.T) {
	expect.Errors(t, ValidateEvent(event(nil)))
	expect.Errors(t, ValidateEvent(event(func(e *corev1.Event) {
		e.ReportingController, e.Type, e.Count, e.Source.Component = "a b", "Bad", 1, "x"
		e.FirstTimestamp, e.LastTimestamp = metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
		e.Series = &corev1.EventSeries{Count: 1}
	})), "Invalid reportingController", "Invalid type", "Invalid count", "Invalid source", "Invalid firstTimestamp", "Invalid lastTimestamp", "Invalid series.count", "Required series.lastObservedTime")
	expect.Errors(t, ValidateEvent(event(func(e *corev1.Event) { e.EventTime = metav1.MicroTime{} })), "Required eventTime")
}

func TestEventUpdate(t *testing.T) {
	series := event(func(e *corev1.Event) {
		e.Series = &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(time.Unix(3, 0))}
	})
	expect.Errors(t, ValidateEventUpdate(series, event(nil)))
	expect.Errors(t, ValidateEventUpdate(event(func(e *corev1.Event) {
		e.Reason, e.Message, e.InvolvedObject.Name, e.Type, e.Action = "Other", "m", "q", "Warning", "Push"
	}), event(nil)), "Invalid reason", "Invalid message", "Invalid involvedObject", "Invalid type", "Invalid action")
	expect.Errors(t, ValidateEventUpdate(event(func(e *corev1.Event) { e.Series = &corev1.EventSeries{} }), event(nil)), "Invalid series.count", "Required series.lastObservedTime")
}
