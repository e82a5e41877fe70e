package fact

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// Condition is a node condition without its times.
type Condition struct {
	Type    v1.NodeConditionType
	Status  v1.ConditionStatus
	Reason  string
	Message string
}

// Pressures gives the three pressure conditions of a node that is in these. The messages carry no figure that
// moves, because a changed message is a write.
func Pressures(in []v1.NodeConditionType) []Condition {
	out := []Condition{
		{Type: v1.NodeMemoryPressure, Reason: "KubeletHasSufficientMemory", Message: "node has enough memory"},
		{Type: v1.NodeDiskPressure, Reason: "KubeletHasNoDiskPressure", Message: "node has enough disk space"},
		{Type: v1.NodePIDPressure, Reason: "KubeletHasSufficientPID", Message: "node has enough process ids"},
	}
	short := []Condition{
		{Reason: "KubeletHasInsufficientMemory", Message: "node is short of memory"},
		{Reason: "KubeletHasDiskPressure", Message: "node is short of disk space or inodes"},
		{Reason: "KubeletHasInsufficientPID", Message: "node is short of process ids"},
	}
	for i := range out {
		out[i].Status = v1.ConditionFalse
		if slices.Contains(in, out[i].Type) {
			out[i].Status, out[i].Reason, out[i].Message = v1.ConditionTrue, short[i].Reason, short[i].Message
		}
	}
	return out
}
