package scheduling

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

func TestPriorityClass(t *testing.T) {
	class := func(name string, value int32) *schedulingv1.PriorityClass {
		p := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"}, Value: value}
		defaultPriorityClass(p)
		return p
	}
	expect.Errors(t, ValidatePriorityClass(class("high", HighestUserPriority)))
	expect.Errors(t, ValidatePriorityClass(class("higher", HighestUserPriority+1)), "Forbidden value")
	for name, value := range SystemClasses {
		expect.Errors(t, ValidatePriorityClass(class(name, value)))
		expect.Errors(t, ValidatePriorityClass(class(name, value+1)), "Forbidden metadata.name")
	}
	expect.Errors(t, ValidatePriorityClass(class("system-mine", 1)), "Forbidden metadata.name")
	never, odd := corev1.PreemptNever, corev1.PreemptionPolicy("x")
	p := class("a", 1)
	p.PreemptionPolicy = &odd
	expect.Errors(t, ValidatePriorityClass(p), "NotSupported preemptionPolicy")
	p = class("a", 2)
	p.PreemptionPolicy = &never
	expect.Errors(t, ValidatePriorityClassUpdate(p, class("a", 1)), "Forbidden value", "Invalid preemptionPolicy")
}
