package gateway

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// agentComponent is the source of what is told on an agent's behalf.
const agentComponent = "coracle-agent"

// told is one event about a node.
type told struct{ kind, reason, message string }

// conditionReasons are the reasons of the events for a condition that became true and false.
var conditionReasons = []struct {
	condition v1.NodeConditionType
	yes, no   string
}{
	{v1.NodeMemoryPressure, "NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
	{v1.NodeDiskPressure, "NodeHasDiskPressure", "NodeHasNoDiskPressure"},
	{v1.NodePIDPressure, "NodeHasInsufficientPID", "NodeHasSufficientPID"},
	{v1.NodeReady, "NodeReady", "NodeNotReady"},
}

// nodeEvents is what is told of a node whose status goes from before to after; before is empty of a node that is new.
func nodeEvents(node string, before, after *v1.NodeStatus) []told {
	var out []told
	if old, now := before.NodeInfo.BootID, after.NodeInfo.BootID; old != "" && now != "" && old != now {
		out = append(out, told{v1.EventTypeWarning, "Rebooted", fmt.Sprintf("Node %s has been rebooted, boot id: %s", node, now)})
	}
	for _, r := range conditionReasons {
		was, now := nodeCondition(before, r.condition), nodeCondition(after, r.condition)
		reason := ""
		switch {
		case was == now:
		case now == v1.ConditionTrue:
			reason = r.yes
		case now == v1.ConditionFalse && (was != "" || r.condition != v1.NodeReady): // a node that comes up was not ready before
			reason = r.no
		}
		if reason != "" {
			out = append(out, told{v1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", node, reason)})
		}
	}
	return out
}

// nodeCondition is the status of a condition, empty where there is none.
func nodeCondition(s *v1.NodeStatus, kind v1.NodeConditionType) v1.ConditionStatus {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return s.Conditions[i].Status
		}
	}
	return ""
}

// tellOfNode records what nodeEvents says. An event that cannot be written is not worth a second try of the status.
func (g *Gateway) tellOfNode(ctx context.Context, node string, before, after *v1.NodeStatus) {
	now := g.c.Now()
	for i, e := range nodeEvents(node, before, after) {
		if err := g.writeEvent(ctx, nodeEvent(node, e, now.Add(time.Duration(i)))); err != nil {
			g.c.Log.Debug("event about a node not written", "node", node, "reason", e.reason, "err", err)
		}
	}
}

// nodeEvent makes the object, as a kubelet does: about the node by its name, in the default namespace.
func nodeEvent(node string, e told, now time.Time) *v1.Event {
	at := metav1.NewTime(now)
	return &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: fmt.Sprintf("%s.%x", node, now.UnixNano())},
		InvolvedObject: v1.ObjectReference{Kind: kindNode, Name: node, UID: types.UID(node)},
		Type:           e.kind, Reason: e.reason, Message: e.message, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		Source:              v1.EventSource{Component: agentComponent, Host: node},
		ReportingController: agentComponent, ReportingInstance: node,
	}
}
