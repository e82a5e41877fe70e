package integration

import (
	"crypto/rand"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/remotecommand"
)

// BenchmarkPodReady prints, for one pod and for 100 at once, create to Ready beside the same containers started by
// `ctr run -d` in the same run; quote the ratio, not the seconds.
func BenchmarkPodReady(b *testing.B) {
	for _, c := range []struct {
		name string
		pods int
	}{{"one", 1}, {"hundred", 100}} {
		b.Run(c.name, func(b *testing.B) {
			s := newSpace(b)
			createToReady(s, 1, "warm")
			for b.Loop() {
				floor := s.floor(b, c.pods)
				own := createToReady(s, c.pods, "bench")
				memory(b, s)
				gone := deletePods(s)
				b.ReportMetric(own.Seconds(), "ready-s")
				b.ReportMetric(floor.Seconds(), "ctr-s")
				b.ReportMetric(own.Seconds()/floor.Seconds(), "ready/ctr")
				b.ReportMetric(gone.Seconds()/floor.Seconds(), "delete/ctr")
			}
			b.ReportMetric(0, "ns/op") // the time of the loop holds the floor too, and says nothing
		})
	}
}

func memory(b *testing.B, s *space) {
	b.Helper()
	b.ReportMetric(privateMB(b, s.agent.pid()), "agent-MB")
	b.ReportMetric(privateMB(b, s.control.pid()), "controlplane-MB")
	b.ReportMetric(s.nodePSS(b), "node-PSS-MB")
}

// BenchmarkExec prints how long `true` takes in a running container: asked through the API, by kubectl, and by
// `ctr tasks exec` on the node itself, in turns in the same run; quote the ratios.
func BenchmarkExec(b *testing.B) {
	s := newSpace(b)
	s.apply(s.busybox("box", sleeper))
	s.waitReady("box")
	_, id, _ := strings.Cut(s.pod("box").Status.ContainerStatuses[0].ContainerID, "://")
	over := map[string]remotecommand.Executor{}
	for _, protocol := range []string{"WebSocket", "SPDY"} {
		over[protocol] = s.streamer(b, protocol, "box", &corev1.PodExecOptions{Command: []string{"true"}, Stdout: true, Stderr: true})
	}
	ways := map[string]func() error{
		"ctr": func() error {
			_, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "tasks", "exec", "--exec-id", rand.Text(), id, "true")
			return err
		},
		"kubectl": func() error { _, err := s.kubectl("exec", "box", "--", "true"); return err },
	}
	for protocol, e := range over {
		ways[protocol] = func() error {
			return e.StreamWithContext(b.Context(), remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard})
		}
	}
	quiet(b)
	for b.Loop() {
		took := map[string][]time.Duration{}
		for range 15 {
			for name, way := range ways {
				began := time.Now()
				if err := way(); err != nil {
					b.Fatalf("%s: %v", name, err)
				}
				took[name] = append(took[name], time.Since(began))
			}
		}
		middle := func(name string) float64 {
			slices.Sort(took[name])
			return took[name][len(took[name])/2].Seconds()
		}
		b.ReportMetric(middle("ctr"), "ctr-s")
		b.ReportMetric(middle("WebSocket")/middle("ctr"), "websocket/ctr")
		b.ReportMetric(middle("SPDY")/middle("ctr"), "spdy/ctr")
		b.ReportMetric(middle("kubectl")/middle("ctr"), "kubectl/ctr")
	}
	b.ReportMetric(0, "ns/op") // the time of the loop holds all of them, and says nothing
}
