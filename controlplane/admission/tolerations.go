package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/utils/ptr"
)

// outageSeconds is how long a pod stays bound to a node that is not ready or cannot be reached.
const outageSeconds = 300

// AddDefaultTolerations lets pod outlast short outages of its node, unless it says itself how long. It changes pod.
func AddDefaultTolerations(pod *corev1.Pod) {
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !speaksOf(pod.Spec.Tolerations, key) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
				TolerationSeconds: ptr.To[int64](outageSeconds),
			})
		}
	}
}

func speaksOf(tolerations []corev1.Toleration, key string) bool {
	for _, t := range tolerations {
		if (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "") {
			return true
		}
	}
	return false
}

// tolerations is the step around AddDefaultTolerations.
type tolerations struct{ *admission.Handler }

func newTolerations() *tolerations {
	return &tolerations{Handler: admission.NewHandler(admission.Create, admission.Update)}
}

// Admit implements admission.MutationInterface.
func (*tolerations) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if pod, ok := a.GetObject().(*corev1.Pod); ok && isPod(a) {
		AddDefaultTolerations(pod)
	}
	return nil
}
