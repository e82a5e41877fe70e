package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

func TestRuntimeClass(t *testing.T) {
	class := func(change func(r *nodev1.RuntimeClass)) *nodev1.RuntimeClass {
		r := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "crun", ResourceVersion: "1"}, Handler: "crun"}
		change(r)
		return r
	}
	sound := class(func(*nodev1.RuntimeClass) {})
	expect.Errors(t, ValidateRuntimeClass(sound))
	same := corev1.Toleration{Key: "k", Operator: "Exists"}
	expect.Errors(t, ValidateRuntimeClass(class(func(r *nodev1.RuntimeClass) {
		r.Handler = "A"
		r.Overhead = &nodev1.Overhead{PodFixed: corev1.ResourceList{"cpu": resource.MustParse("-1")}}
		r.Scheduling = &nodev1.Scheduling{NodeSelector: map[string]string{"a": "b c"}, Tolerations: []corev1.Toleration{same, same, {Operator: "Near"}}}
	})), "Invalid handler", "Invalid overhead.limits[cpu]", "Invalid scheduling.nodeSelector", "Duplicate scheduling.tolerations[1]",
		"Invalid scheduling.tolerations[2].operator", "NotSupported scheduling.tolerations[2].operator")
	expect.Errors(t, ValidateRuntimeClassUpdate(class(func(r *nodev1.RuntimeClass) { r.Handler = "runc" }), sound), "Invalid handler")
}
