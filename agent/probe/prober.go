package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/agent/pod"
	"coracle/agent/runtime"
)

// maxOutput bounds what is kept of a probe's answer for its event.
const maxOutput = 1024

// maxRedirects is how many redirects within a host are followed; more are a loop.
const maxRedirects = 10

// userAgent is how servers know these requests; many leave them out of their access logs by its first word.
const userAgent = "kube-probe/1.37"

// Executor runs commands in containers. *runtime.Runtime is one.
type Executor interface {
	Exec(ctx context.Context, id string, spec runtime.ExecSpec) (exitCode int, err error)
}

// probe carries out one probing. message says why it did not pass.
func probe(ctx context.Context, t pod.ProbeTarget, ip string, exec Executor) (o Outcome, message string) {
	timeout := time.Second
	if t.Probe.TimeoutSeconds > 0 {
		timeout = time.Duration(t.Probe.TimeoutSeconds) * time.Second
	}
	h := t.Probe.ProbeHandler
	if h.Exec != nil {
		return probeExec(ctx, t.ContainerID, h.Exec.Command, timeout, exec)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case h.HTTPGet != nil:
		return probeHTTP(ctx, h.HTTPGet, ip, t.Ports)
	case h.TCPSocket != nil:
		return probeTCP(ctx, h.TCPSocket, ip, t.Ports)
	case h.GRPC != nil:
		return probeGRPC(ctx, h.GRPC, ip)
	}
	return Errored, "the probe names no handler"
}

func probeExec(ctx context.Context, id string, command []string, timeout time.Duration, exec Executor) (Outcome, string) {
	out := &Output{Left: maxOutput}
	code, err := exec.Exec(ctx, id, runtime.ExecSpec{Command: command, Stdout: out, Stderr: out, Timeout: timeout})
	switch {
	case errors.Is(err, runtime.ErrTimeout):
		return Failed, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(command, " "), timeout)
	case err != nil:
		return Errored, err.Error()
	case code != 0:
		if text := out.String(); text != "" {
			return Failed, text
		}
		return Failed, fmt.Sprintf("command %q exited with %d", strings.Join(command, " "), code)
	}
	return Passed, ""
}

func probeHTTP(ctx context.Context, g *v1.HTTPGetAction, ip string, ports []v1.ContainerPort) (Outcome, string) {
	code, body, err := Get(ctx, g, ip, ports, userAgent)
	var bad *RequestError
	switch {
	case errors.As(err, &bad):
		return Errored, err.Error()
	case err != nil:
		return Failed, err.Error()
	case code < http.StatusOK || code >= http.StatusBadRequest:
		return Failed, fmt.Sprintf("HTTP probe failed with statuscode: %d", code)
	case code >= http.StatusMultipleChoices:
		return Warned, "Probe terminated redirects, Response body: " + body
	}
	return Passed, ""
}

func probeTCP(ctx context.Context, a *v1.TCPSocketAction, ip string, ports []v1.ContainerPort) (Outcome, string) {
	port, err := Port(a.Port, ports)
	if err != nil {
		return Errored, err.Error()
	}
	host := a.Host
	if host == "" {
		host = ip
	}
	c, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Failed, err.Error()
	}
	if err := c.Close(); err != nil {
		return Errored, err.Error()
	}
	return Passed, ""
}

func probeGRPC(ctx context.Context, a *v1.GRPCAction, ip string) (Outcome, string) {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(ip, strconv.Itoa(int(a.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(userAgent),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		return Errored, err.Error()
	}
	defer conn.Close() //nolint:errcheck // nothing is left unsent
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return Failed, "timeout: health rpc did not complete in time"
	case status.Code(err) == codes.Unimplemented:
		return Failed, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): " + err.Error()
	case err != nil:
		return Failed, fmt.Sprintf("service unhealthy (%s)", err)
	case answer.GetStatus() != healthv1.HealthCheckResponse_SERVING:
		return Failed, fmt.Sprintf("service unhealthy (responded with %q)", answer.GetStatus())
	}
	return Passed, ""
}

// RequestError says that a request could not even be formed.
type RequestError struct{ Err error }

func (e *RequestError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RequestError) Unwrap() error { return e.Err }

// dialer lets the kernel forget a closed connection after a second rather than a minute (socket(7), SO_LINGER): thousands
// of probes would otherwise keep tens of thousands of ports of the machine in TIME_WAIT.
var dialer = &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
	var setErr error
	if err := c.Control(func(fd uintptr) {
		setErr = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 1})
	}); err != nil {
		return err
	}
	return setErr
}}

// client keeps no connections, so that each request tells whether a new one is answered. It does
// not verify certificates, as users of Kubernetes expect: the address is the node's own
// knowledge. Redirects to another host are not followed and count as an answer.
var client = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true,
		Proxy:             nil,
		DialContext:       dialer.DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	},
	CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case req.URL.Hostname() != via[0].URL.Hostname():
			return http.ErrUseLastResponse
		case len(via) >= maxRedirects:
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		}
		return nil
	},
}

// Get makes the request of an httpGet handler, against ip where it names no host, and gives
// the status code and the beginning of the answer. agent is the User-Agent. A *RequestError is one that could not be formed.
func Get(ctx context.Context, g *v1.HTTPGetAction, ip string, ports []v1.ContainerPort, agent string) (code int, body string, err error) {
	port, err := Port(g.Port, ports)
	if err != nil {
		return 0, "", &RequestError{err}
	}
	host := g.Host
	if host == "" {
		host = ip
	}
	if host == "" {
		return 0, "", &RequestError{errors.New("the pod has no address yet")}
	}
	u, err := url.Parse(g.Path)
	if err != nil { // an odd path is sent as it stands
		u = &url.URL{Path: g.Path}
	}
	u.Scheme, u.Host = strings.ToLower(string(g.Scheme)), net.JoinHostPort(host, strconv.Itoa(port))
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return 0, "", &RequestError{err}
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "*/*")
	for i, h := range g.HTTPHeaders {
		name := http.CanonicalHeaderKey(h.Name)
		switch {
		case name == "Host":
			req.Host = h.Value
		case h.Value == "" && (name == "Accept" || name == "User-Agent"):
			req.Header[name] = nil // an empty value asks for the header to be left out
		case first(g.HTTPHeaders, i, name):
			req.Header.Set(name, h.Value)
		default:
			req.Header.Add(name, h.Value)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxOutput))
	if err != nil {
		return 0, "", fmt.Errorf("read answer of %s: %w", u, err)
	}
	return resp.StatusCode, string(text), nil
}

// first says that no header before i has the same name.
func first(list []v1.HTTPHeader, i int, name string) bool {
	for _, h := range list[:i] {
		if http.CanonicalHeaderKey(h.Name) == name {
			return false
		}
	}
	return true
}

// Port is the number of a port given by number or by the name of one of the container's ports.
func Port(p intstr.IntOrString, ports []v1.ContainerPort) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, have := range ports {
			if have.Name == p.StrVal {
				n = int(have.ContainerPort)
			}
		}
		if n == 0 {
			return 0, fmt.Errorf("the container has no port named %q", p.StrVal)
		}
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("port %d is out of range", n)
	}
	return n, nil
}

// Output keeps the first Left bytes of what is written and swallows the rest. Safe for concurrent use.
type Output struct {
	Left int

	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	keep := b[:min(len(b), o.Left)]
	o.Left -= len(keep)
	o.buf.Write(keep)
	return len(b), nil
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.ToValidUTF8(o.buf.String(), "")
}
