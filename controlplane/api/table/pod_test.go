package table

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

func waiting(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func terminated(code, signal int32, reason string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Signal: signal, Reason: reason, FinishedAt: ago(5 * time.Minute)}}
}

var running = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}

// status of the container web; ready follows from running.
func status(state corev1.ContainerState) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "web", State: state, Ready: state.Running != nil}
}

func podOf(name string, phase corev1.PodPhase, main []corev1.ContainerStatus, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: object(name), Spec: corev1.PodSpec{NodeName: "pi"}, Status: corev1.PodStatus{Phase: phase, ContainerStatuses: main, PodIP: "10.0.0.1"}}
	for range max(1, len(main)) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "web"})
	}
	if change != nil {
		change(p)
	}
	return p
}

// withInit adds init containers in these states.
func withInit(states ...corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for _, state := range states {
			p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "setup"})
			p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, corev1.ContainerStatus{Name: "setup", State: state, RestartCount: 2})
		}
	}
}

func TestPods(t *testing.T) {
	one := func(s corev1.ContainerStatus) []corev1.ContainerStatus { return []corev1.ContainerStatus{s} }
	crashing := status(waiting("CrashLoopBackOff"))
	crashing.RestartCount, crashing.LastTerminationState = 3, terminated(1, 0, "Error")
	notReady := status(running)
	notReady.Ready = false
	sidecar := func(state corev1.ContainerState, started bool) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "proxy", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "proxy", State: state, Started: &started, Ready: started, RestartCount: 1, LastTerminationState: terminated(1, 0, "Error")}}
		}
	}
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(ago(time.Second)) }
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}
	var list []runtime.Object
	add := func(p *corev1.Pod) { list = append(list, p) }
	add(podOf("running", corev1.PodRunning, one(status(running)), nil))
	add(podOf("not-ready", corev1.PodRunning, one(notReady), nil))
	add(podOf("unscheduled", corev1.PodPending, nil, func(p *corev1.Pod) { p.Spec.NodeName, p.Status.PodIP = "", "" }))
	add(podOf("gated", corev1.PodPending, nil, func(p *corev1.Pod) {
		p.Spec.NodeName, p.Status.PodIP = "", ""
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "SchedulingGated"}}
	}))
	add(podOf("nominated", corev1.PodPending, nil, func(p *corev1.Pod) { p.Spec.NodeName, p.Status.NominatedNodeName = "", "pi2" }))
	add(podOf("creating", corev1.PodPending, one(status(waiting("ContainerCreating"))), nil))
	add(podOf("image", corev1.PodPending, one(status(waiting("ImagePullBackOff"))), nil))
	add(podOf("crashing", corev1.PodRunning, one(crashing), nil))
	add(podOf("completed", corev1.PodSucceeded, one(status(terminated(0, 0, "Completed"))), nil))
	add(podOf("failed", corev1.PodFailed, one(status(terminated(1, 0, "Error"))), nil))
	add(podOf("killed", corev1.PodFailed, one(status(terminated(137, 9, ""))), nil))
	add(podOf("exit-code", corev1.PodFailed, one(status(terminated(3, 0, ""))), nil))
	add(podOf("oom", corev1.PodFailed, one(status(terminated(137, 0, "OOMKilled"))), nil))
	add(podOf("evicted", corev1.PodFailed, nil, func(p *corev1.Pod) { p.Status.Reason = "Evicted" }))
	add(podOf("half-done", corev1.PodRunning, []corev1.ContainerStatus{status(terminated(0, 0, "Completed")), status(running)}, nil))
	add(podOf("half-done-ready", corev1.PodRunning, []corev1.ContainerStatus{status(terminated(0, 0, "Completed")), status(running)}, func(p *corev1.Pod) {
		p.Status.Conditions = []corev1.PodCondition{ready}
	}))
	add(podOf("terminating", corev1.PodRunning, one(status(running)), deleted))
	add(podOf("terminating-done", corev1.PodSucceeded, one(status(terminated(0, 0, "Completed"))), deleted))
	add(podOf("node-lost", corev1.PodRunning, one(status(running)), func(p *corev1.Pod) { deleted(p); p.Status.Reason = "NodeLost" }))
	add(podOf("init-first", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(running, waiting("PodInitializing"))))
	add(podOf("init-second", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(terminated(0, 0, "Completed"), running)))
	add(podOf("init-waiting", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(waiting("PodInitializing"))))
	add(podOf("init-image", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(waiting("ImagePullBackOff"))))
	add(podOf("init-error", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(terminated(1, 0, "Error"))))
	add(podOf("init-exit-code", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(terminated(4, 0, ""))))
	add(podOf("init-signal", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(terminated(137, 9, ""))))
	add(podOf("init-done", corev1.PodPending, one(status(waiting("PodInitializing"))), withInit(terminated(0, 0, "Completed"))))
	add(podOf("sidecar", corev1.PodRunning, one(status(running)), sidecar(running, true)))
	add(podOf("sidecar-starting", corev1.PodPending, one(status(waiting("PodInitializing"))), sidecar(running, false)))
	add(podOf("readiness-gates", corev1.PodRunning, one(status(running)), func(p *corev1.Pod) {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "a"}, {ConditionType: "b"}}
		p.Status.Conditions = []corev1.PodCondition{{Type: "a", Status: corev1.ConditionTrue}}
	}))
	add(podOf("restarted-once-long-ago", corev1.PodRunning, one(corev1.ContainerStatus{Name: "web", State: running, Ready: true, RestartCount: 1}), nil))
	add(podOf("dual-stack", corev1.PodRunning, one(status(running)), func(p *corev1.Pod) {
		p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}
	}))
	golden(t, "pods", list...)
}

func TestFinishedPodsAreMarked(t *testing.T) {
	for phase, want := range map[corev1.PodPhase]int{corev1.PodRunning: 0, corev1.PodSucceeded: 1, corev1.PodFailed: 1} {
		table, err := convertor().ConvertToTable(t.Context(), podOf("p", phase, nil, nil), nil)
		if err != nil || len(table.Rows[0].Conditions) != want {
			t.Errorf("%s: %v, %v", phase, table.Rows[0].Conditions, err)
		}
		for _, c := range table.Rows[0].Conditions {
			if c.Type != metav1.RowCompleted || c.Reason != string(phase) {
				t.Errorf("%s: %+v", phase, c)
			}
		}
	}
}
