package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"
)

// TaintNewNode keeps pods away from node until the node controller has seen it ready. It changes node.
func TaintNewNode(node *corev1.Node) {
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoSchedule {
			return
		}
	}
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
}

// nodeTaint is the step around TaintNewNode.
type nodeTaint struct{ *admission.Handler }

func newNodeTaint() *nodeTaint { return &nodeTaint{Handler: admission.NewHandler(admission.Create)} }

// Admit implements admission.MutationInterface.
func (*nodeTaint) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	node, ok := a.GetObject().(*corev1.Node)
	if ok && a.GetResource().GroupResource() == corev1.Resource("nodes") && a.GetSubresource() == "" {
		TaintNewNode(node)
	}
	return nil
}
