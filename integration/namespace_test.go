package integration

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// space is a namespace that one test works in.
type space struct {
	*cluster
	t    testing.TB
	name string
}

var spaces atomic.Int32

// newSpace makes a namespace for the test and deletes it, with all in it, at the test's end.
func newSpace(t testing.TB) *space {
	t.Helper()
	s := &space{cluster: shared, t: t, name: fmt.Sprintf("it-%d", spaces.Add(1))}
	s.do("create", "namespace", s.name)
	// Pods are refused until the namespace has its service account.
	s.eventually(20*time.Second, func() error { _, err := s.kubectl("get", "serviceaccount", "default"); return err })
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := s.kubectl("get", "pods,events", "-o", "wide")
			t.Logf("in namespace %s:\n%s", s.name, out)
		}
		if _, err := s.cluster.kubectl("delete", "namespace", s.name, "--timeout=90s"); err != nil {
			t.Errorf("delete namespace: %v", err)
		}
	})
	return s
}

// kubectl runs kubectl in this namespace.
func (s *space) kubectl(args ...string) (string, error) {
	return s.cluster.kubectl(append([]string{"-n", s.name}, args...)...)
}

// do is kubectl that must succeed.
func (s *space) do(args ...string) string {
	s.t.Helper()
	out, err := s.kubectl(args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// refused is kubectl that must fail; it returns what kubectl said.
func (s *space) refused(args ...string) string {
	s.t.Helper()
	out, err := s.kubectl(args...)
	if err == nil {
		s.t.Fatalf("kubectl %s succeeded and should not have: %s", strings.Join(args, " "), out)
	}
	return err.Error()
}

func (s *space) apply(manifest string, args ...string) string {
	s.t.Helper()
	out, err := s.cluster.kubectlStdin(manifest, append([]string{"-n", s.name, "apply", "-f", "-"}, args...)...)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, manifest)
	}
	return out
}

func (s *space) eventually(d time.Duration, ask func() error) {
	s.t.Helper()
	if err := eventually(d, ask); err != nil {
		s.t.Fatal(err)
	}
}

func (s *space) pod(name string) *corev1.Pod {
	s.t.Helper()
	var p corev1.Pod
	s.cluster.get(s.t, &p, "-n", s.name, "pod", name)
	return &p
}

func (s *space) waitReady(pods ...string) {
	s.t.Helper()
	for _, p := range pods {
		s.do("wait", "--for=condition=Ready", "pod/"+p, "--timeout=60s")
	}
}

// waitPod waits until the pod is as the function wants it; nil means it is.
func (s *space) waitPod(name string, d time.Duration, want func(*corev1.Pod) error) *corev1.Pod {
	s.t.Helper()
	var p *corev1.Pod
	s.eventually(d, func() error {
		p = &corev1.Pod{}
		if err := s.read(p, "-n", s.name, "pod", name); err != nil {
			return err
		}
		return want(p)
	})
	return p
}

// waitingReason wants the first container to wait for this reason.
func waitingReason(reason string) func(*corev1.Pod) error {
	return func(p *corev1.Pod) error {
		for _, cs := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if cs.State.Waiting != nil && cs.State.Waiting.Reason == reason {
				return nil
			}
		}
		return fmt.Errorf("pod %s: no container waits for %s: %+v", p.Name, reason, p.Status.ContainerStatuses)
	}
}

func phase(want corev1.PodPhase) func(*corev1.Pod) error {
	return func(p *corev1.Pod) error {
		if p.Status.Phase != want {
			return fmt.Errorf("pod %s is %s, want %s: %s", p.Name, p.Status.Phase, want, p.Status.Message)
		}
		return nil
	}
}

// containerPID is the PID of a running container's first process, as containerd says.
func (s *space) containerPID(p *corev1.Pod, container string) string {
	s.t.Helper()
	for _, cs := range p.Status.ContainerStatuses {
		if cs.Name != container {
			continue
		}
		id := strings.TrimPrefix(cs.ContainerID, "containerd://")
		out, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "tasks", "list")
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == id && f[2] == "RUNNING" {
				return f[1]
			}
		}
	}
	s.t.Fatalf("pod %s has no running container %s", p.Name, container)
	return ""
}

// busybox is the manifest of a pod with one container that runs a shell command; more is laid under the container.
func (s *space) busybox(name, command string, more ...string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: %s
    command: [sh, -c, %q]
%s`, name, name, s.image, command, indent(strings.Join(more, "\n"), "    "))
}

func indent(text, by string) string {
	if text == "" {
		return ""
	}
	return by + strings.ReplaceAll(text, "\n", "\n"+by)
}

// says waits until kubectl prints all these texts: events and log lines come after what they tell of.
func (s *space) says(args []string, texts ...string) {
	s.t.Helper()
	s.eventually(20*time.Second, func() error {
		out, err := s.kubectl(args...)
		for _, text := range texts {
			if err == nil && !strings.Contains(out, text) {
				err = fmt.Errorf("kubectl %s: %q is not in:\n%s", strings.Join(args, " "), text, out)
			}
		}
		return err
	})
}

// wantContains fails the test for each of the texts that is not in got.
func (s *space) wantContains(got string, texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			s.t.Errorf("%q is not in:\n%s", text, got)
		}
	}
}

const sleeper = "trap 'exit 0' TERM; while :; do sleep 1; done"
