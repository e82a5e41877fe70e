package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestStreamsEndWithTheirSession kills the agent, and then the control plane, under streams that are open: whoever waits for
// one is told so and does not wait for ever, and the node is used again afterwards.
func TestStreamsEndWithTheirSession(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("box", "while :; do echo tick; sleep 1; done"))
	s.waitReady("box")
	for _, who := range []struct {
		name string
		kill func()
	}{
		{"agent", func() { restart(t, s.agent) }},
		{"control plane", func() { restart(t, s.control); s.waitAPI() }},
	} {
		dir := t.TempDir()
		open := map[string]*process{}
		for name, args := range map[string][]string{
			"exec":   {"exec", "box", "--", "sh", "-c", "echo begun; exec sleep 4321"},
			"follow": {"logs", "-f", "box"},
			"attach": {"attach", "box"},
		} {
			p := newProcess(dir, name, append([]string{binary("kubectl"), "--kubeconfig", s.kubeconfig, "-n", s.name}, args...)...)
			if err := p.start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.stop() })
			open[name] = p
		}
		for name, said := range map[string]string{"exec": "begun", "follow": "tick", "attach": "tick"} {
			s.eventually(30*time.Second, func() error {
				if got := open[name].tail(5); !strings.Contains(got, said) {
					return fmt.Errorf("%s printed %q", name, got)
				}
				return nil
			})
		}
		who.kill()
		for name, p := range open {
			s.eventually(60*time.Second, func() error {
				if !p.exited() {
					return fmt.Errorf("kubectl %s goes on after kill -9 of the %s: %s", name, who.name, p.tail(5))
				}
				return nil
			})
		}
		if err := s.waitNodeReady(60 * time.Second); err != nil {
			t.Fatal(err)
		}
		s.eventually(30*time.Second, func() error { _, err := s.kubectl("exec", "box", "--", "true"); return err })
	}
	if n := s.pod("box").Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("the container was restarted %d times", n)
	}
}
