package podrun

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"coracle/internal/testwait"
)

func TestRealPodLife(t *testing.T) {
	n := newRealNode(t)
	_, stop := n.agent()
	setup := busybox("setup", "echo $COLOUR > /shared/colour")
	setup.Env = []v1.EnvVar{{Name: "COLOUR", Value: "blue"}}
	side := busybox("side", "trap 'exit 0' TERM; while true; do sleep 0.1; done")
	side.RestartPolicy = ptr.To(v1.ContainerRestartPolicyAlways)
	web := busybox("web", `echo "$(cat /shared/colour) $(hostname) $KUBERNETES_IP"; echo last words > /dev/termination-log; while true; do sleep 0.1; done`)
	web.Env = []v1.EnvVar{{Name: "KUBERNETES_IP", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
	web.ReadinessProbe = &v1.Probe{PeriodSeconds: 1, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"cat", "/shared/colour"}}}}
	p := realPod(1, web)
	p.Spec.InitContainers = []v1.Container{setup, side}
	p.Spec.Volumes = []v1.Volume{{Name: "shared", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}}}
	for _, c := range []*v1.Container{&p.Spec.InitContainers[0], &p.Spec.Containers[0]} {
		c.VolumeMounts = []v1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	}
	n.assign(p)
	s := n.await(p.UID, "ready", isReady)
	if !strings.HasPrefix(s.PodIP, "10.99.7.") || s.InitContainerStatuses[0].State.Terminated.Reason != "Completed" || !s.InitContainerStatuses[1].Ready {
		t.Errorf("status %+v", s)
	}
	log := filepath.Join(n.dir, "logs", "default_pod-1_"+string(p.UID), "web", "0.log")
	if text := n.awaitLog(log); !strings.HasSuffix(text, " F blue pod-1 "+s.PodIP+"\n") {
		t.Errorf("log %q", text)
	}

	// The agent is killed; the container dies meanwhile; the next agent restarts it and says how it ended.
	stop()
	n.newRuntime()
	o, err := n.runtime.Observe(t.Context(), p.UID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range o.Containers {
		if c.Name == "web" {
			if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	r, stop := n.agent()
	defer stop()
	s = n.await(p.UID, "restarted", func(s v1.PodStatus, _ bool) bool {
		return len(s.ContainerStatuses) > 0 && s.ContainerStatuses[0].RestartCount == 1 && s.ContainerStatuses[0].State.Running != nil
	})
	if last := s.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 || last.Message != "last words\n" {
		t.Errorf("last state %+v", last)
	}
	if s.InitContainerStatuses[1].RestartCount != 0 {
		t.Errorf("the sidecar was restarted too: %+v", s.InitContainerStatuses[1])
	}

	n.delete(p, 1)
	s = n.await(p.UID, "released", isReleased)
	if s.ContainerStatuses[0].State.Terminated == nil {
		t.Errorf("status after release %+v", s.ContainerStatuses[0])
	}
	n.remove(p)
	n.gone(r)
}

func (n *realNode) awaitLog(path string) string {
	n.t.Helper()
	var text []byte
	testwait.Nil(n.t, "a line in the log", func() (err error) {
		if text, err = os.ReadFile(path); err == nil && !bytes.HasSuffix(text, []byte("\n")) {
			err = fmt.Errorf("the log has %q", text)
		}
		return err
	})
	return string(text)
}

func TestRealCommandThatDoesNotExist(t *testing.T) {
	n := newRealNode(t)
	r, stop := n.agent()
	defer stop()
	p := realPod(1, v1.Container{Name: "web", Image: realImage, ImagePullPolicy: v1.PullNever, Command: []string{"/bin/nope"}})
	p.Spec.RestartPolicy = v1.RestartPolicyNever
	n.assign(p)
	s := n.await(p.UID, "failed", func(s v1.PodStatus, _ bool) bool { return s.Phase == v1.PodFailed })
	if end := s.ContainerStatuses[0].State.Terminated; end == nil || end.Reason != "StartError" || end.ExitCode != 128 || !strings.Contains(end.Message, "/bin/nope") {
		t.Errorf("ended as %+v", end)
	}
	n.remove(p)
	n.gone(r)
}

func TestRealMissingImage(t *testing.T) {
	n := newRealNode(t)
	r, stop := n.agent()
	defer stop()
	p := realPod(1, v1.Container{Name: "web", Image: "test.example/none:1", ImagePullPolicy: v1.PullNever})
	n.assign(p)
	s := n.await(p.UID, "waiting", func(s v1.PodStatus, _ bool) bool {
		return len(s.ContainerStatuses) > 0 && s.ContainerStatuses[0].State.Waiting != nil && s.ContainerStatuses[0].State.Waiting.Reason == "ErrImageNeverPull"
	})
	if s.Phase != v1.PodPending {
		t.Errorf("phase %s", s.Phase)
	}
	n.delete(p, 30)
	n.await(p.UID, "released", isReleased)
	n.remove(p)
	n.gone(r)
}

// BenchmarkRealPod is the time from an assignment to Ready, with the image present, beside BenchmarkCtrRun.
func BenchmarkRealPod(b *testing.B) {
	n := newRealNode(b)
	r, stop := n.agent()
	defer stop()
	i := 0
	for b.Loop() {
		p := realPod(i, busybox("web", "sleep 1000"))
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](0)
		n.assign(p)
		n.await(p.UID, "ready", isReady)
		b.StopTimer()
		n.remove(p)
		for len(r.Snapshot()) > 0 {
			goruntime.Gosched()
		}
		b.StartTimer()
		i++
	}
}

// TestRealManyPods: many at once come up, and nothing of them stays.
func TestRealManyPods(t *testing.T) {
	n := newRealNode(t)
	r, stop := n.agent()
	defer stop()
	pods := n.many(30)
	for _, p := range pods {
		n.delete(p, 1)
	}
	for _, p := range pods {
		n.await(p.UID, "released", isReleased)
		n.remove(p)
	}
	n.gone(r)
}

// many assigns pods and waits until all are ready.
func (n *realNode) many(count int) []*v1.Pod {
	n.t.Helper()
	var pods []*v1.Pod
	for i := range count {
		p := realPod(i, busybox("web", "exec sleep 1000"))
		pods = append(pods, p)
		n.assign(p)
	}
	for _, p := range pods {
		n.await(p.UID, "ready", isReady)
	}
	return pods
}

// BenchmarkRealFiftyPods is fifty pods at once until the last is ready, by how many starts go on at a time.
func BenchmarkRealFiftyPods(b *testing.B) {
	for _, slots := range []int{2, 4, 8, 16} {
		b.Run(fmt.Sprintf("starts=%d", slots), func(b *testing.B) {
			n := newRealNode(b)
			r, stop := n.agent(func(c *Config) { c.MaxStarts = slots })
			defer stop()
			for b.Loop() {
				pods := n.many(50)
				b.StopTimer()
				for _, p := range pods {
					n.remove(p)
				}
				n.gone(r)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkCtrRun is the floor: the same container by containerd's own command.
func BenchmarkCtrRun(b *testing.B) {
	n := newRealNode(b)
	i := 0
	for b.Loop() {
		id := fmt.Sprintf("ctr%d", i)
		out, err := exec.Command("ctr", "--address", n.daemon.Address, "-n", "coracle", "run", "-d", realImage, id, "sleep", "1000").CombinedOutput()
		if err != nil {
			b.Fatalf("ctr run: %v: %s", err, out)
		}
		b.StopTimer()
		if out, err := exec.Command("ctr", "--address", n.daemon.Address, "-n", "coracle", "task", "rm", "-f", id).CombinedOutput(); err != nil {
			b.Fatalf("ctr task rm: %v: %s", err, out)
		}
		if out, err := exec.Command("ctr", "--address", n.daemon.Address, "-n", "coracle", "container", "rm", id).CombinedOutput(); err != nil {
			b.Fatalf("ctr container rm: %v: %s", err, out)
		}
		b.StartTimer()
		i++
	}
}
