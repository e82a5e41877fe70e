package fact

import (
	"strings"

	v1 "k8s.io/api/core/v1"
)

// LimitsEnforced says whether the node can hold pods to everything that they may ask for.
//
// Differs: Kubernetes has no such condition; a kubelet fails such pods one by one, or says nothing.
const LimitsEnforced v1.NodeConditionType = "LimitsEnforced"

// Limits gives that condition; gaps are sentences about what the kernel lacks.
func Limits(gaps []string) Condition {
	if len(gaps) == 0 {
		return Condition{LimitsEnforced, v1.ConditionTrue, "KernelHasControls", "pods are held to all limits that they may have"}
	}
	return Condition{LimitsEnforced, v1.ConditionFalse, "KernelLacksControls", strings.Join(gaps, "; ")}
}
