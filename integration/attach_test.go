package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAttachInEveryWay attaches to containers with and without terminal and input, twice, and after their end.
func TestAttachInEveryWay(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("terminal", "while read line; do echo \"got $line\"; test \"$line\" = bye && exit 0; done", "stdin: true\ntty: true") + "\n  restartPolicy: Never\n")
	s.apply(s.busybox("open", "while read line; do echo \"got $line\"; done; echo input ended; "+sleeper, "stdin: true"))
	s.apply(s.busybox("once", "cat; echo input ended; "+sleeper, "stdin: true\nstdinOnce: true"))
	s.apply(s.busybox("mute", "while :; do echo out; echo err >&2; sleep 1; done"))
	s.waitReady("terminal", "open", "once", "mute")

	// Without stdinOnce the input stays open for the next who attaches.
	for i := range 2 {
		s.attachAndSee("open", fmt.Sprintf("line %d\n", i), fmt.Sprintf("got line %d", i))
	}
	if got := s.do("logs", "open"); got != "got line 0\ngot line 1\n" {
		t.Errorf("the container with open input printed %q", got)
	}
	// With it, the end of the first one's input is the container's.
	s.attachAndSee("once", "all there is", "all there is")
	s.eventually(20*time.Second, func() error {
		if got := s.do("logs", "once"); got != "all there isinput ended\n" {
			return fmt.Errorf("the container with input for one printed %q", got)
		}
		return nil
	})
	// Two see the same output at the same time, each on its own stream.
	dir := t.TempDir()
	for _, name := range []string{"first", "second"} {
		p := newProcess(dir, name, binary("kubectl"), "--kubeconfig", s.kubeconfig, "-n", s.name, "attach", "mute")
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.stop() })
		s.eventually(30*time.Second, func() error {
			if got := p.tail(20); !strings.Contains(got, "out") || !strings.Contains(got, "err") {
				return fmt.Errorf("%s saw %q", name, got)
			}
			return nil
		})
	}
	// A terminal; the attachment ends with the container.
	typed := "sleep 1; printf 'hello\\n'; sleep 1; printf 'bye\\n'; sleep 1"
	got, err := output([]string{"KUBECONFIG=" + s.kubeconfig}, "", "sh", "-c",
		fmt.Sprintf("{ %s; } | timeout 60 script -qec '%s -n %s attach -it terminal' /dev/null", typed, binary("kubectl"), s.name))
	if err != nil || !strings.Contains(got, "got hello") || !strings.Contains(got, "got bye") {
		t.Errorf("attach -it gave %q, %v", got, err)
	}
	s.waitPod("terminal", 30*time.Second, func(p *pod) error {
		if p.Status.Phase != "Succeeded" {
			return fmt.Errorf("phase %s", p.Status.Phase)
		}
		return nil
	})
	s.wantContains(s.refused("get", "--raw", "/api/v1/namespaces/"+s.name+"/pods/terminal/attach?stdout=true"), "cannot attach to a container in a completed pod; current phase is Succeeded")
	s.wantContains(s.refused("exec", "terminal", "--", "true"), "cannot exec into a container in a completed pod; current phase is Succeeded")
	s.wantContains(s.refused("get", "--raw", "/api/v1/namespaces/"+s.name+"/pods/open/attach?stdout=true"), "Upgrade request required")
	s.wantContains(s.refused("attach", "open", "-c", "none"), "container none is not valid for pod open")
}

// attachAndSee types and wants an answer; kubectl is then stopped, as the container goes on.
func (s *space) attachAndSee(pod, typed, want string) {
	s.t.Helper()
	out, err := output([]string{"KUBECONFIG=" + s.kubeconfig}, "", "sh", "-c",
		fmt.Sprintf("{ printf '%%s' '%s'; sleep 3; } | timeout 4 %s -n %s attach -i %s", typed, binary("kubectl"), s.name, pod))
	if !strings.Contains(out, want) {
		s.t.Errorf("attach to %s gave %q, %v", pod, out, err)
	}
}
