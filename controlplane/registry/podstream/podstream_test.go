package podstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/utils/ptr"

	"coracle/internal/testwait"
	nodev1 "coracle/proto/node/v1"
)

func (a *api) executor(t *testing.T, kind, path string) remotecommand.Executor {
	t.Helper()
	u, err := url.Parse(a.server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	var e remotecommand.Executor
	if kind == "websocket" {
		e, err = remotecommand.NewWebSocketExecutor(a.client(), http.MethodGet, u.String())
	} else {
		e, err = remotecommand.NewSPDYExecutor(a.client(), http.MethodPost, u)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var protocols = []string{"spdy", "websocket"}

func TestExecThroughRealClients(t *testing.T) {
	for _, kind := range protocols {
		t.Run(kind, func(t *testing.T) {
			a := newAPI(t)
			e := a.executor(t, kind, "/pods/exec/web?command=a&command=b&command=c&stdin=true&stdout=true&stderr=true&container=c")
			var out, errOut bytes.Buffer
			text := strings.Repeat("0123456789", 20_000)
			err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader(text), Stdout: &out, Stderr: &errOut})
			var code exec.CodeExitError
			if !errors.As(err, &code) || code.Code != 3 {
				t.Errorf("want exit code 3, got %v", err)
			}
			if out.String() != text || errOut.String() != "end" {
				t.Errorf("out %d bytes of %d, err %q", out.Len(), len(text), errOut.String())
			}
			if got := a.agent.asked[0].GetExec(); got.GetPodUid() != "uid-1" || got.GetContainer() != "c" || len(got.GetCommand()) != 3 || !got.GetStdin() {
				t.Errorf("asked %v", got)
			}
		})
	}
}

func TestAttachEndsWell(t *testing.T) {
	for _, kind := range protocols {
		t.Run(kind, func(t *testing.T) {
			a := newAPI(t)
			e := a.executor(t, kind, "/pods/attach/web?stdout=true&stderr=true")
			var out, errOut bytes.Buffer
			if err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}); err != nil || errOut.String() != "end" {
				t.Errorf("%v, %q", err, errOut.String())
			}
		})
	}
}

type sizes []remotecommand.TerminalSize

func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(*s) == 0 {
		return nil
	}
	first := (*s)[0]
	*s = (*s)[1:]
	return &first
}

func TestTerminalSizeReachesTheNode(t *testing.T) {
	for _, kind := range protocols {
		t.Run(kind, func(t *testing.T) {
			a := newAPI(t)
			e := a.executor(t, kind, "/pods/exec/web?command=sh&stdin=true&stdout=true&tty=true")
			in, typed := io.Pipe()
			var wg sync.WaitGroup
			defer testwait.End(t, "the terminal's size", wg.Wait)
			wg.Go(func() {
				defer typed.Close()
				if got := testwait.Receive(t, "the terminal's size", a.agent.sizes); got.GetWidth() != 100 || got.GetHeight() != 30 {
					t.Errorf("size %v", got)
				}
			})
			var out bytes.Buffer
			err := e.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: in, Stdout: &out, Tty: true, TerminalSizeQueue: &sizes{{Width: 100, Height: 30}}})
			var code exec.CodeExitError
			if !errors.As(err, &code) || code.Code != 1 {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestExecRefusals(t *testing.T) {
	a := newAPI(t)
	for path, want := range map[string]string{
		"/pods/exec/two?command=x&stdout=true":               "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]",
		"/pods/exec/two?command=x&stdout=true&container=zzz": "container zzz is not valid for pod two",
		"/pods/exec/web?stdout=true":                         "you must specify a command",
		"/pods/exec/web?command=x":                           "at least 1 of stdin, stdout, stderr",
		"/pods/exec/done?command=x&stdout=true":              "cannot exec into a container in a completed pod; current phase is Succeeded",
		"/pods/exec/nowhere?command=x&stdout=true":           "pod nowhere does not have a host assigned",
		"/pods/exec/away?command=x&stdout=true":              `the agent of node "n2" is not connected`,
		"/pods/exec/gone?command=x&stdout=true":              `"gone" not found`,
	} {
		for _, kind := range protocols {
			err := a.executor(t, kind, path).StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: got %v, want %q", kind, path, err, want)
			}
		}
	}
	if code, body := a.get(t, "/pods/exec/web?command=x&stdout=true"); code != http.StatusBadRequest || !strings.Contains(body, "Upgrade request required") || len(a.agent.asked) != 0 {
		t.Errorf("a plain request ran the command: %d %s", code, body)
	}
	a.agent.fail = &nodev1.Result{Error: `container not found ("c")`, Reason: nodev1.Result_INVALID}
	for _, kind := range protocols {
		err := a.executor(t, kind, "/pods/exec/web?command=x&stdout=true").StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), `container not found ("c")`) {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}

func (a *api) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get(a.server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestPortForwardThroughRealClients(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var echoes sync.WaitGroup
	defer testwait.End(t, "the echoes", echoes.Wait)
	defer l.Close()
	echoes.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			echoes.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	for _, kind := range protocols {
		t.Run(kind, func(t *testing.T) {
			a := newAPI(t)
			a.agent.ports[80] = l.Addr().String()
			u, err := url.Parse(a.server.URL + "/pods/portforward/web")
			if err != nil {
				t.Fatal(err)
			}
			var dialer httpstream.Dialer
			if kind == "websocket" {
				dialer, err = portforward.NewSPDYOverWebsocketDialerForStreaming(u, a.client())
			} else {
				transport, upgrader, rtErr := spdy.RoundTripperFor(a.client())
				err = rtErr
				dialer = spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u)
			}
			if err != nil {
				t.Fatal(err)
			}
			stop, ready := make(chan struct{}), make(chan struct{})
			f, err := portforward.NewOnAddressesForStreaming(dialer, []string{"127.0.0.1"}, []string{"0:80", "0:81"}, stop, ready, io.Discard, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- f.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-done:
				t.Fatalf("not ready: %v", err)
			case <-time.After(testwait.Patience):
				t.Fatal("not ready")
			}
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if got := converse(t, ports[0].Local, fmt.Sprint("hello ", i)); got != fmt.Sprint("hello ", i) {
					t.Errorf("got %q", got)
				}
			}
			// A port where nobody listens ends that connection; the client tells its user from the error stream.
			if got := converse(t, ports[1].Local, "x"); got != "" {
				t.Errorf("a port where nobody listens said %q", got)
			}
			close(stop)
			if err := testwait.Receive(t, "forwarding ends", done); err != nil && !errors.Is(err, portforward.ErrLostConnectionToPod) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// converse sends text, ends its side, and returns the answer.
func converse(t *testing.T, port uint16, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(testwait.Patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte(text)) // the other end may have gone: then nothing is answered
	buf := make([]byte, len(text))
	n, _ := io.ReadFull(conn, buf)
	return string(buf[:n])
}

func TestLogs(t *testing.T) {
	a := newAPI(t)
	a.agent.log = "one\ntwo\n"
	if code, body := a.get(t, "/pods/log/web?tailLines=5&previous=true"); code != 200 || body != "one\ntwo\n" {
		t.Errorf("%d %q", code, body)
	}
	opts := &v1.PodLogOptions{}
	if err := opts.Unmarshal(a.agent.asked[0].GetLogs().GetOptions()); err != nil || *opts.TailLines != 5 || !opts.Previous || opts.Container != "c" {
		t.Errorf("asked %v (%v)", opts, err)
	}
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/pods/log/nowhere":                      {200, ""},
		"/pods/log/two":                          {400, "a container name must be specified for pod two, choose one of: [a b] or one of the init containers: [i]"},
		"/pods/log/two?container=x":              {400, "container x is not valid for pod two"},
		"/pods/log/web?tailLines=-1":             {422, "tailLines: Invalid value: -1"},
		"/pods/log/web?limitBytes=0":             {422, "limitBytes: Invalid value: 0"},
		"/pods/log/web?sinceSeconds=0":           {422, "sinceSeconds: Invalid value: 0"},
		"/pods/log/web?stream=Neither":           {422, `stream: Unsupported value: \"Neither\"`},
		"/pods/log/web?stream=Stdout&tailLines=": {422, "mutually exclusive"},
		"/pods/log/away":                         {503, `node \"n2\" is not connected`},
		"/pods/log/gone":                         {404, `\"gone\" not found`},
	} {
		if strings.HasSuffix(path, "tailLines=") {
			path += "3"
		}
		if code, body := a.get(t, path); code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %s, want %d with %q", path, code, body, want.code, want.text)
		}
	}
	a.agent.fail = &nodev1.Result{Error: `container "c" in pod "web" is waiting to start: ContainerCreating`, Reason: nodev1.Result_INVALID}
	if code, body := a.get(t, "/pods/log/web"); code != 400 || !strings.Contains(body, `is waiting to start: ContainerCreating`) {
		t.Errorf("%d %s", code, body)
	}
}

func TestProxies(t *testing.T) {
	a := newAPI(t)
	backend := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s", r.Method, r.URL)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = backend.Serve(l) })
	t.Cleanup(func() { _ = backend.Close(); wg.Wait() })
	for _, port := range []int32{0, 8080, 9090} {
		a.agent.ports[port] = l.Addr().String()
	}
	a.slices = []*discoveryv1.EndpointSlice{{
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To[int32](9090)}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"192.0.2.8"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}},
			{Addresses: []string{"192.0.2.7"}, TargetRef: &v1.ObjectReference{Kind: "Pod", Name: "web"}},
		},
	}}
	for path, want := range map[string]struct {
		code int
		text string
		port int32
	}{
		"/pods/proxy/web/a/b?x=y":           {418, "GET /a/b?x=y", 8080},
		"/pods/proxy/web:9090/":             {418, "GET /", 9090},
		"/pods/proxy/web:web/q/":            {418, "GET /q/", 8080},
		"/pods/proxy/http:web:9090/x":       {418, "GET /x", 9090},
		"/pods/proxy/web:7777/":             {503, "connection refused", 7777},
		"/pods/proxy/web:nope/":             {400, `has no port`, -1},
		"/pods/proxy/away/":                 {503, "is not connected", -1},
		"/services/proxy/svc/s":             {418, "GET /s", 9090},
		"/services/proxy/http:svc:http/s":   {418, "GET /s", 9090},
		"/services/proxy/svc:81/s":          {503, `no service port \"81\" found`, -1},
		"/nodes/proxy/n1/healthz":           {418, "GET /healthz", 0},
		"/nodes/proxy/https:n1:10250/stats": {418, "GET /stats", 0},
		"/nodes/proxy/n1:9090/metrics":      {418, "GET /metrics", 9090},
		"/nodes/proxy/n7/healthz":           {404, "not found", -1},
	} {
		a.agent.asked = nil
		code, body := a.get(t, path)
		if code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %s, want %d with %q", path, code, body, want.code, want.text)
		}
		if want.port >= 0 && (len(a.agent.asked) != 1 || a.agent.asked[0].GetDial().GetPort() != want.port) {
			t.Errorf("%s: asked %v", path, a.agent.asked)
		}
	}
	a.slices = nil
	if code, body := a.get(t, "/services/proxy/svc/s"); code != 503 || !strings.Contains(body, "no endpoints available for service") {
		t.Errorf("%d %s", code, body)
	}
}

func TestProxyDoesNotReachThisMachine(t *testing.T) {
	a := newAPI(t)
	for _, address := range []string{"127.0.0.1", "169.254.169.254", "::1", "0.0.0.0"} {
		if _, err := a.config.dialEndpoint(t.Context(), endpoint{address: address, port: 80}); err == nil || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
