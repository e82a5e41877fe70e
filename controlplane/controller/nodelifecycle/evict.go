package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// EvictAt is when the pod must leave a node with these taints; ok is false if it may stay. Each taint has its TimeAdded
// set, which its tolerationSeconds count from.
func EvictAt(pod *corev1.Pod, taints []corev1.Taint) (at time.Time, ok bool) {
	for i := range taints {
		t := &taints[i]
		if t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		tolerated, limit := toleration(pod, t)
		var end time.Time
		switch {
		case !tolerated && t.TimeAdded != nil:
			end = t.TimeAdded.Time
		case !tolerated:
		case limit == nil:
			continue // for ever
		case t.TimeAdded != nil:
			end = t.TimeAdded.Add(time.Duration(max(0, *limit)) * time.Second)
		}
		if !ok || end.Before(at) {
			at, ok = end, true
		}
	}
	return at, ok
}

// toleration finds the first toleration of the taint and how many seconds it holds; nil: for ever.
func toleration(pod *corev1.Pod, t *corev1.Taint) (ok bool, seconds *int64) {
	for i := range pod.Spec.Tolerations {
		if tol := &pod.Spec.Tolerations[i]; tol.ToleratesTaint(klog.Logger{}, t, true) {
			return true, tol.TolerationSeconds
		}
	}
	return false, nil
}
