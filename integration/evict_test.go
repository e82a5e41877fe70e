package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// reconfigure has the agent start anew with one line of its configuration in the place of another, until the test ends.
func (s *space) reconfigure(t *testing.T, line func(old string) string) {
	t.Helper()
	path := filepath.Join(s.dir, "agent.yaml")
	old := readFile(t, path)
	set := func(text string) {
		t.Helper()
		s.agent.stop()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.agent.start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		set(old)
		if err := s.waitNodeReady(60 * time.Second); err != nil {
			t.Error(err)
		}
	})
	set(line(old))
}

func (s *space) nodeCondition(t *testing.T, kind corev1.NodeConditionType) (string, *corev1.Node) {
	t.Helper()
	var n corev1.Node
	s.get(t, &n, "node", s.node)
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return string(c.Status) + " " + c.Reason, &n
		}
	}
	return "", &n
}

// TestMemoryPressure: with a limit that no machine meets, the pod goes whose end frees memory, in Kubernetes' words, and no other does;
// the node says so and takes no pods that ask for nothing.
func TestMemoryPressure(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("idle", sleeper))
	s.apply(s.busybox("hog", "dd if=/dev/zero of=/dev/shm/x bs=1M count=32 2>/dev/null; "+sleeper))
	s.waitReady("idle")
	s.waitReady("hog")
	s.eventually(30*time.Second, func() error {
		_, err := s.kubectl("exec", "hog", "--", "sh", "-c", "[ $(stat -c %s /dev/shm/x) = 33554432 ]")
		return err
	})
	idle := s.containerPID(s.pod("idle"), "main")

	s.reconfigure(t, func(old string) string {
		return strings.Replace(old, "evictionHard: {", `evictionPressureTransitionPeriod: 1s
evictionHard: {memory.available: 900Gi, `, 1)
	})
	s.waitPod("hog", 60*time.Second, func(p *pod) error {
		if p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("hog is %s", p.Status.Phase)
		}
		return nil
	})
	p := s.pod("hog")
	want := regexp.MustCompile(`^The node was low on resource: memory\. Threshold quantity: 900Gi, available: [0-9]+[KMG]i\. ` +
		`Container main was using [0-9]+[KM]i, request is 0, has larger consumption of memory\. $`)
	if p.Status.Reason != "Evicted" || !want.MatchString(p.Status.Message) {
		t.Errorf("hog: reason %q, message %q", p.Status.Reason, p.Status.Message)
	}
	if c := podCondition(p, corev1.DisruptionTarget); c.Status != corev1.ConditionTrue || c.Reason != corev1.PodReasonTerminationByKubelet {
		t.Errorf("hog: DisruptionTarget %+v", c)
	}
	s.says([]string{"describe", "pod", "hog"}, "Evicted")
	s.eventually(60*time.Second, func() error {
		state, n := s.nodeCondition(t, corev1.NodeMemoryPressure)
		if state != "True KubeletHasInsufficientMemory" {
			return fmt.Errorf("MemoryPressure is %q", state)
		}
		for _, taint := range n.Spec.Taints {
			if taint.Key == corev1.TaintNodeMemoryPressure && taint.Effect == corev1.TaintEffectNoSchedule {
				return nil
			}
		}
		return fmt.Errorf("taints: %v", n.Spec.Taints)
	})

	// Straight to the node, past the scheduler, which heeds the taint.
	s.apply(strings.Replace(s.busybox("late", sleeper), "spec:", "spec:\n  nodeName: "+s.node, 1))
	s.waitPod("late", 60*time.Second, func(p *pod) error {
		if p.Status.Phase != corev1.PodFailed || p.Status.Reason != "Evicted" || !strings.Contains(p.Status.Message, "The node had condition: [MemoryPressure]. ") {
			return fmt.Errorf("late: %s, %s, %q", p.Status.Phase, p.Status.Reason, p.Status.Message)
		}
		return nil
	})
	s.eventually(60*time.Second, func() error {
		out, err := s.kubectl("get", "events", "-n", "default", "--field-selector", "involvedObject.name="+s.node)
		for _, reason := range []string{"EvictionThresholdMet", "EvictionFreesNothing"} {
			if err == nil && !strings.Contains(out, reason) {
				err = fmt.Errorf("no event %s:\n%s", reason, out)
			}
		}
		return err
	})
	if p := s.pod("idle"); p.Status.Phase != corev1.PodRunning || s.containerPID(p, "main") != idle {
		t.Errorf("idle, whose end frees nothing, is %s: %s", p.Status.Phase, p.Status.Message)
	}
}

// TestDiskPressure: dead containers go first, and how they ended is still told; then the pod that has written, and none that has not. New
// pods are not taken, whatever they ask for.
func TestDiskPressure(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("done", "true") + "\n  restartPolicy: Never\n")
	s.apply(s.busybox("idle", sleeper))
	s.apply(s.busybox("writer", "dd if=/dev/zero of=/data/x bs=1M count=8 2>/dev/null; "+sleeper, "volumeMounts: [{name: data, mountPath: /data}]") +
		"\n  volumes: [{name: data, emptyDir: {}}]\n")
	s.waitReady("idle", "writer")
	s.waitPod("done", 60*time.Second, phase(corev1.PodSucceeded))
	s.eventually(30*time.Second, func() error {
		_, err := s.kubectl("exec", "writer", "--", "sh", "-c", "[ $(stat -c %s /data/x) = 8388608 ]")
		return err
	})
	idle := s.containerPID(s.pod("idle"), "main")
	dead := string(s.pod("done").UID)

	s.reconfigure(t, func(old string) string {
		return strings.Replace(old, `evictionHard: {nodefs.available: "0"`, `evictionPressureTransitionPeriod: 1s
evictionHard: {nodefs.available: 900Ti`, 1)
	})
	p := s.waitPod("writer", 60*time.Second, phase(corev1.PodFailed))
	want := regexp.MustCompile(`^The node was low on resource: ephemeral-storage\. Threshold quantity: 900Ti, available: [0-9]+[KMGT]i\. `)
	if p.Status.Reason != "Evicted" || !want.MatchString(p.Status.Message) {
		t.Errorf("writer: reason %q, message %q", p.Status.Reason, p.Status.Message)
	}
	s.eventually(60*time.Second, func() error {
		state, n := s.nodeCondition(t, corev1.NodeDiskPressure)
		if state != "True KubeletHasDiskPressure" {
			return fmt.Errorf("DiskPressure is %q", state)
		}
		for _, taint := range n.Spec.Taints {
			if taint.Key == corev1.TaintNodeDiskPressure {
				return nil
			}
		}
		return fmt.Errorf("taints: %v", n.Spec.Taints)
	})
	s.eventually(60*time.Second, func() error {
		out, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "containers", "list")
		for _, gone := range []string{dead, string(p.UID)} {
			if err == nil && strings.Contains(out, gone[:8]) {
				err = fmt.Errorf("containers of pod %s are still there:\n%s", gone, out)
			}
		}
		return err
	})
	if p := s.pod("done"); p.Status.Phase != corev1.PodSucceeded || len(p.Status.ContainerStatuses) != 1 || p.Status.ContainerStatuses[0].State.Terminated == nil {
		t.Errorf("done: %+v", p.Status)
	}
	s.apply(strings.Replace(s.busybox("late", sleeper, "resources: {requests: {cpu: 1m}}"), "spec:", "spec:\n  nodeName: "+s.node, 1))
	late := s.waitPod("late", 60*time.Second, phase(corev1.PodFailed))
	if late.Status.Reason != "Evicted" || !strings.Contains(late.Status.Message, "The node had condition: [DiskPressure]. ") {
		t.Errorf("late: reason %q, message %q", late.Status.Reason, late.Status.Message)
	}
	if p := s.pod("idle"); p.Status.Phase != corev1.PodRunning || s.containerPID(p, "main") != idle {
		t.Errorf("idle, which has written nothing, is %s: %s", p.Status.Phase, p.Status.Message)
	}
}
