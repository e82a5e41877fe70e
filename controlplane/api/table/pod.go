package table

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

func decimal(n int) string { return strconv.Itoa(n) }

func podPrinter() printer {
	p := of(columns(nameColumn, text("Ready"), text("Status"), text("Restarts"), ageColumn,
		wide("IP"), wide("Node"), wide("Nominated Node"), wide("Readiness Gates")), podCells)
	p.conditions = func(obj runtime.Object) []metav1.TableRowCondition {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil
		}
		switch pod.Status.Phase {
		case corev1.PodSucceeded:
			return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue,
				Reason: string(corev1.PodSucceeded), Message: "The pod has completed successfully."}}
		case corev1.PodFailed:
			return []metav1.TableRowCondition{{Type: metav1.RowCompleted, Status: metav1.ConditionTrue,
				Reason: string(corev1.PodFailed), Message: "The pod failed."}}
		}
		return nil
	}
	return p
}

func podCells(pod *corev1.Pod, now time.Time) []any {
	s := summarize(pod)
	restarts := decimal(s.restarts)
	if s.restarts > 0 && !s.lastRestart.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", s.restarts, duration.HumanDuration(now.Sub(s.lastRestart.Time)))
	}
	ip := pod.Status.PodIP
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return []any{pod.Name, fmt.Sprintf("%d/%d", s.ready, s.total), s.reason, restarts, age(pod, now),
		or(ip, none), or(pod.Spec.NodeName, none), or(pod.Status.NominatedNodeName, none), gates(pod)}
}

// gates is how many readiness gates are open.
func gates(pod *corev1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return none
	}
	open := 0
	for _, gate := range pod.Spec.ReadinessGates {
		if conditionTrue(pod, gate.ConditionType) {
			open++
		}
	}
	return fmt.Sprintf("%d/%d", open, len(pod.Spec.ReadinessGates))
}

func conditionTrue(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// summary is a pod in one line.
type summary struct {
	reason       string
	ready, total int
	restarts     int
	lastRestart  metav1.Time
}

// count adds the restarts of one container.
func (s *summary) count(c *corev1.ContainerStatus) {
	s.restarts += int(c.RestartCount)
	if t := c.LastTerminationState.Terminated; t != nil && s.lastRestart.Before(&t.FinishedAt) {
		s.lastRestart = t.FinishedAt
	}
}

// summarize finds the one word that tells most: the phase, unless a reason is given for the pod, unless a container says more,
// unless the pod is being deleted.
func summarize(pod *corev1.Pod) summary {
	s := summary{reason: string(pod.Status.Phase), total: len(pod.Spec.Containers)}
	if pod.Status.Reason != "" {
		s.reason = pod.Status.Reason
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			s.reason = corev1.PodReasonSchedulingGated
		}
	}
	initializing, sidecars := s.addInit(pod)
	if !initializing || conditionTrue(pod, corev1.PodInitialized) {
		// What init containers did is over; only those that run beside the others still count.
		s.restarts, s.lastRestart = sidecars.restarts, sidecars.lastRestart
		s.addMain(pod)
	}
	if pod.DeletionTimestamp != nil {
		switch {
		case pod.Status.Reason == "NodeLost":
			s.reason = string(corev1.PodUnknown)
		case pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed:
			s.reason = "Terminating"
		}
	}
	return s
}

// addInit walks the init containers up to the first that is not done.
func (s *summary) addInit(pod *corev1.Pod) (initializing bool, sidecars summary) {
	sidecar := map[string]bool{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecar[c.Name] = true
			s.total++
		}
	}
	for i := range pod.Status.InitContainerStatuses {
		c := &pod.Status.InitContainerStatuses[i]
		s.count(c)
		if sidecar[c.Name] {
			sidecars.count(c)
		}
		terminated, waiting := c.State.Terminated, c.State.Waiting
		switch {
		case terminated != nil && terminated.ExitCode == 0:
			continue
		case sidecar[c.Name] && c.Started != nil && *c.Started:
			if c.Ready {
				s.ready++
			}
			continue
		case terminated != nil && terminated.Reason != "":
			s.reason = "Init:" + terminated.Reason
		case terminated != nil && terminated.Signal != 0:
			s.reason = fmt.Sprintf("Init:Signal:%d", terminated.Signal)
		case terminated != nil:
			s.reason = fmt.Sprintf("Init:ExitCode:%d", terminated.ExitCode)
		case waiting != nil && waiting.Reason != "" && waiting.Reason != "PodInitializing":
			s.reason = "Init:" + waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return true, sidecars
	}
	return false, sidecars
}

// addMain walks the containers from the last to the first, so that the first one that has something to say has the last word.
func (s *summary) addMain(pod *corev1.Pod) {
	running := false
	for i := len(pod.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &pod.Status.ContainerStatuses[i]
		s.count(c)
		terminated, waiting := c.State.Terminated, c.State.Waiting
		switch {
		case waiting != nil && waiting.Reason != "":
			s.reason = waiting.Reason
		case terminated != nil && terminated.Reason != "":
			s.reason = terminated.Reason
		case terminated != nil && terminated.Signal != 0:
			s.reason = fmt.Sprintf("Signal:%d", terminated.Signal)
		case terminated != nil:
			s.reason = fmt.Sprintf("ExitCode:%d", terminated.ExitCode)
		case c.Ready && c.State.Running != nil:
			running = true
			s.ready++
		}
	}
	// One container finished while another goes on: the pod is not completed.
	if s.reason == "Completed" && running {
		s.reason = "NotReady"
		if conditionTrue(pod, corev1.PodReady) {
			s.reason = "Running"
		}
	}
}
