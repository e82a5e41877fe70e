package controller

import (
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"
)

// recorder passes events on to the recorder of the present run, and drops them while there is none.
type recorder struct {
	component string
	current   atomic.Pointer[record.EventRecorder]
}

func (r *recorder) set(current record.EventRecorder) { r.current.Store(&current) }

// Event implements record.EventRecorder.
func (r *recorder) Event(object runtime.Object, eventtype, reason, message string) {
	if c := r.current.Load(); c != nil {
		(*c).Event(object, eventtype, reason, message)
	}
}

// Eventf implements record.EventRecorder.
func (r *recorder) Eventf(object runtime.Object, eventtype, reason, messageFmt string, args ...any) {
	if c := r.current.Load(); c != nil {
		(*c).Eventf(object, eventtype, reason, messageFmt, args...)
	}
}

// AnnotatedEventf implements record.EventRecorder.
func (r *recorder) AnnotatedEventf(object runtime.Object, annotations map[string]string, eventtype, reason, messageFmt string, args ...any) {
	if c := r.current.Load(); c != nil {
		(*c).AnnotatedEventf(object, annotations, eventtype, reason, messageFmt, args...)
	}
}
