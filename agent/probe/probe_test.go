package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"coracle/agent/pod"
	"coracle/agent/runtime"
)

func TestCount(t *testing.T) {
	p := &v1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	for _, tc := range []struct {
		outcomes string // p passed, f failed, e errored
		want     pod.Verdict
	}{
		{"", pod.Unknown},
		{"p", pod.Unknown},
		{"pp", pod.Success},
		{"pfp", pod.Unknown},
		{"ppff", pod.Success},
		{"ppfff", pod.Failure},
		{"fff", pod.Failure},
		{"fffp", pod.Failure},
		{"fffpp", pod.Success},
		{"feef", pod.Unknown},
		{"fefef", pod.Failure},
		{"ee", pod.Unknown},
	} {
		var c Count
		for _, o := range tc.outcomes {
			c = c.Next(map[rune]Outcome{'p': Passed, 'f': Failed, 'e': Errored}[o], p)
		}
		if c.Verdict != tc.want {
			t.Errorf("%q: verdict %d, want %d", tc.outcomes, c.Verdict, tc.want)
		}
	}
}

// TestCountProperties: a verdict changes only after enough of the same in a row, and errors never change one.
func TestCountProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &v1.Probe{SuccessThreshold: rapid.Int32Range(0, 4).Draw(t, "success"), FailureThreshold: rapid.Int32Range(0, 4).Draw(t, "failure")}
		var c Count
		row, last := 0, Errored
		for _, o := range rapid.SliceOf(rapid.SampledFrom([]Outcome{Errored, Passed, Failed})).Draw(t, "outcomes") {
			before := c
			c = c.Next(o, p)
			if o == Errored {
				if c != before {
					t.Fatalf("an error changed %+v to %+v", before, c)
				}
				continue
			}
			if o == last {
				row++
			} else {
				row, last = 1, o
			}
			need := max(int(p.SuccessThreshold), 1)
			want := pod.Success
			if o == Failed {
				need, want = failureThreshold(p), pod.Failure
			}
			if (c.Verdict == want) != (row >= need || before.Verdict == want) {
				t.Fatalf("after %d of outcome %d in a row: %+v", row, o, c)
			}
		}
	})
}

func TestHTTP(t *testing.T) {
	var got *http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		switch r.URL.Path {
		case "/ok":
			w.WriteHeader(http.StatusNoContent)
		case "/away":
			http.Redirect(w, r, "http://192.0.2.1/other", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/broken", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer s.Close()
	host, port := split(t, s.Listener.Addr())
	for _, tc := range []struct {
		path    string
		want    Outcome
		message string
	}{
		{"ok?full=1", Passed, ""},
		{"/away", Warned, "Probe terminated redirects, Response body: "},
		{"/round", Failed, "stopped after 10 redirects"},
		{"/here", Failed, "HTTP probe failed with statuscode: 500"},
		{"/broken", Failed, "HTTP probe failed with statuscode: 500"},
		{"/slow", Failed, "context deadline exceeded"},
	} {
		timeout := int32(60) // of a busy machine
		if tc.path == "/slow" {
			timeout = 1
		}
		target := pod.ProbeTarget{
			Ports: []v1.ContainerPort{{Name: "web", ContainerPort: int32(port)}},
			Probe: &v1.Probe{TimeoutSeconds: timeout, ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{
				Path: tc.path, Port: intstr.FromString("web"),
				HTTPHeaders: []v1.HTTPHeader{{Name: "Host", Value: "example.test"}, {Name: "x-a", Value: "1"}, {Name: "X-A", Value: "2"}},
			}}},
		}
		o, message := probe(t.Context(), target, host, nil)
		if o != tc.want || !strings.Contains(message, tc.message) {
			t.Errorf("%s: %d %q, want %d %q", tc.path, o, message, tc.want, tc.message)
		}
		if tc.path == "ok?full=1" {
			if got.Host != "example.test" || got.URL.RawQuery != "full=1" || !strings.HasPrefix(got.UserAgent(), "kube-probe/") || len(got.Header["X-A"]) != 2 {
				t.Errorf("request: %s %s %v", got.Host, got.URL, got.Header)
			}
		}
	}
}

func split(t testing.TB, a net.Addr) (host string, port int) {
	t.Helper()
	host, text, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	port, err = strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

func TestTCPAndNames(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port := split(t, l.Addr())
	target := pod.ProbeTarget{Probe: &v1.Probe{TimeoutSeconds: 60, ProbeHandler: v1.ProbeHandler{TCPSocket: &v1.TCPSocketAction{Port: intstr.FromInt(port)}}}}
	if o, message := probe(t.Context(), target, host, nil); o != Passed {
		t.Errorf("open port: %d %s", o, message)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if o, _ := probe(t.Context(), target, host, nil); o != Failed {
		t.Errorf("closed port: %d", o)
	}
	target.Probe.TCPSocket.Port = intstr.FromString("nope")
	if o, message := probe(t.Context(), target, host, nil); o != Errored || message != `the container has no port named "nope"` {
		t.Errorf("unknown name: %d %s", o, message)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, answers := grpc.NewServer(), health.NewServer()
	healthv1.RegisterHealthServer(server, answers)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		server.Stop()
		<-served
	}()
	answers.SetServingStatus("db", healthv1.HealthCheckResponse_NOT_SERVING)
	host, port := split(t, l.Addr())
	for service, want := range map[string]Outcome{"": Passed, "db": Failed, "unknown": Failed} {
		target := pod.ProbeTarget{Probe: &v1.Probe{TimeoutSeconds: 60, ProbeHandler: v1.ProbeHandler{GRPC: &v1.GRPCAction{Port: int32(port), Service: ptr.To(service)}}}}
		if o, message := probe(t.Context(), target, host, nil); o != want {
			t.Errorf("service %q: %d %s", service, o, message)
		}
	}
}

type execFunc func(ctx context.Context, spec runtime.ExecSpec) (int, error)

func (f execFunc) Exec(ctx context.Context, _ string, spec runtime.ExecSpec) (int, error) {
	return f(ctx, spec)
}

func TestExec(t *testing.T) {
	for _, tc := range []struct {
		name    string
		code    int
		err     error
		output  string
		want    Outcome
		message string
	}{
		{"passes", 0, nil, "fine", Passed, ""},
		{"fails", 1, nil, "no such file", Failed, "no such file"},
		{"fails in silence", 2, nil, "", Failed, `command "check it" exited with 2`},
		{"times out", 0, runtime.ErrTimeout, "", Failed, `command timed out: "check it" timed out after 3s`},
		{"cannot run", 0, errors.New("container is not running"), "", Errored, "container is not running"},
		{"says too much", 1, nil, strings.Repeat("x", 5000), Failed, strings.Repeat("x", maxOutput)},
	} {
		exec := execFunc(func(_ context.Context, spec runtime.ExecSpec) (int, error) {
			if spec.Timeout != 3*time.Second {
				t.Errorf("timeout %s", spec.Timeout)
			}
			if _, err := fmt.Fprint(spec.Stdout, tc.output); err != nil {
				t.Error(err)
			}
			return tc.code, tc.err
		})
		target := pod.ProbeTarget{Probe: &v1.Probe{TimeoutSeconds: 3, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"check", "it"}}}}}
		if o, message := probe(t.Context(), target, "", exec); o != tc.want || message != tc.message {
			t.Errorf("%s: %d %q, want %d %q", tc.name, o, message, tc.want, tc.message)
		}
	}
}

// runProbes runs p until stop is called.
func runProbes(t testing.TB, p *Probes) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestTiming runs probes on a fake clock: the initial delay, the period, the end with the list.
func TestTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		changes := 0
		start := time.Now()
		p := New(Config{
			Exec: execFunc(func(context.Context, runtime.ExecSpec) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(start))
				return 0, nil
			}),
			OnChange:  func(types.UID) { changes++ },
			OnOutcome: func(types.UID, pod.ProbeTarget, Outcome, string) {},
		})
		stop := runProbes(t, p)
		target := pod.ProbeTarget{ContainerID: "c", Kind: pod.Readiness, StartedAt: start, Probe: &v1.Probe{
			InitialDelaySeconds: 7, PeriodSeconds: 5, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{}},
		}}
		p.SetTargets("u", "", []pod.ProbeTarget{target})
		<-time.After(6 * time.Second)
		p.SetTargets("u", "", []pod.ProbeTarget{target}) // the same list again changes nothing
		if v := p.Verdict("u", "c", pod.Readiness); v != pod.Unknown {
			t.Errorf("verdict %d before the first probe", v)
		}
		<-time.After(14 * time.Second)
		synctest.Wait()
		if v := p.Verdict("u", "c", pod.Readiness); v != pod.Success || changes != 1 {
			t.Errorf("verdict %d, %d changes", v, changes)
		}
		if got := p.Tallies(); len(got) != 1 || got[0] != (Tally{UID: "u", ContainerID: "c", Kind: pod.Readiness, Ended: [4]uint32{Passed: 3}}) {
			t.Errorf("tallies %+v", got)
		}
		p.SetTargets("u", "", nil)
		if got := p.Tallies(); len(got) != 0 {
			t.Errorf("tallies of no probes: %+v", got)
		}
		<-time.After(time.Minute)
		if v := p.Verdict("u", "c", pod.Readiness); v != pod.Unknown {
			t.Errorf("verdict %d of a probe that no longer runs", v)
		}
		stop()
		if want := "[7s 12s 17s]"; fmt.Sprint(at) != want {
			t.Errorf("probed at %v, want %s", at, want)
		}
	})
}

// TestFreshAgentSpreadsProbes: an agent that starts on a busy node does not probe everything in one instant.
func TestFreshAgentSpreadsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		seconds := map[int]int{}
		start := time.Now()
		p := New(Config{
			Exec: execFunc(func(context.Context, runtime.ExecSpec) (int, error) {
				mu.Lock()
				defer mu.Unlock()
				seconds[int(time.Since(start).Seconds())]++
				return 0, nil
			}),
			OnChange:  func(types.UID) {},
			OnOutcome: func(types.UID, pod.ProbeTarget, Outcome, string) {},
		})
		stop := runProbes(t, p)
		for i := range 200 {
			uid := types.UID(strconv.Itoa(i))
			p.SetTargets(uid, "", []pod.ProbeTarget{{ContainerID: "c", Kind: pod.Liveness, StartedAt: start.Add(-time.Hour), Probe: &v1.Probe{
				PeriodSeconds: 10, ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{}},
			}}})
		}
		<-time.After(10 * time.Second)
		stop()
		for s := range 10 {
			if seconds[s] == 0 || seconds[s] > 60 {
				t.Errorf("second %d: %d of 200 probes", s, seconds[s])
			}
		}
	})
}
