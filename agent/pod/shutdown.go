package pod

import v1 "k8s.io/api/core/v1"

// shutDown is the reason of pods that end because their machine shuts down.
const shutDown = "Terminated"

// Terminated is the end of a pod whose machine shuts down, with no more than this grace in seconds.
func Terminated(grace int64) Failed {
	return Failed{
		Reason: shutDown, Message: "Pod was terminated in response to imminent node shutdown.",
		Disruption: v1.PodReasonTerminationByKubelet, GraceSeconds: &grace,
	}
}

// ShuttingDown turns pods away while the machine shuts down.
func ShuttingDown() *Rejection {
	return &Rejection{Reason: "NodeShutdown", Message: "Pod was rejected as the node is shutting down."}
}

// Revived is what a pod of the node's own files remembers when the agent starts again after the shutdown that ended it: it runs
// anew, while a pod of the API stays ended and is replaced by its controller. ok is false where there is nothing to undo.
func (f Facts) Revived() (revived Facts, ok bool) {
	if !f.Static || f.Failed == nil || f.Failed.Reason != shutDown {
		return f, false
	}
	f.Failed, f.Stop, f.Finished = nil, nil, ""
	return f, true
}
