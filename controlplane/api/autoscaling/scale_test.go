package autoscaling

import (
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

func TestScale(t *testing.T) {
	expect.Errors(t, ValidateScale(&autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns"}}))
	expect.Errors(t, ValidateScale(&autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: -1}}), "Required metadata.name", "Required metadata.namespace", "Invalid spec.replicas")
}
