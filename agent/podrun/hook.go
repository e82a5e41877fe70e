package podrun

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
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/agent/runtime"
)

// hookTarget is the container that a hook is run for.
type hookTarget struct {
	runtime   Runtime
	id        string
	container *v1.Container
	ips       []string
}

// hookOutputMax bounds what is kept of a hook's output for its event.
const hookOutputMax = 1024

// runHandler runs one lifecycle handler to its end.
func runHandler(ctx context.Context, h *v1.LifecycleHandler, t hookTarget) error {
	switch {
	case h.Exec != nil:
		var out bytes.Buffer
		tail := &limited{w: &out, left: hookOutputMax}
		code, err := t.runtime.Exec(ctx, t.id, runtime.ExecSpec{Command: h.Exec.Command, Stdout: tail, Stderr: tail})
		if err != nil {
			return fmt.Errorf("command %q: %w", strings.Join(h.Exec.Command, " "), err)
		}
		if code != 0 {
			return fmt.Errorf("command %q exited with %d: %s", strings.Join(h.Exec.Command, " "), code, strings.TrimSpace(out.String()))
		}
		return nil
	case h.HTTPGet != nil:
		return httpHook(ctx, h.HTTPGet, t)
	case h.Sleep != nil:
		timer := time.NewTimer(time.Duration(h.Sleep.Seconds) * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case h.TCPSocket != nil:
		return errors.New("tcpSocket is not a handler of lifecycle hooks")
	}
	return errors.New("the hook names no handler")
}

// hookClient does not keep connections: hooks are rare. Like Kubernetes it does not verify a
// pod's certificate, because the address is the node's own knowledge.
var hookClient = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true,
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
}}

func httpHook(ctx context.Context, g *v1.HTTPGetAction, t hookTarget) error {
	port, err := portNumber(g.Port, t.container)
	if err != nil {
		return err
	}
	host := g.Host
	if host == "" {
		if len(t.ips) == 0 {
			return errors.New("the pod has no address yet")
		}
		host = t.ips[0]
	}
	scheme := "http"
	if g.Scheme == v1.URISchemeHTTPS {
		scheme = "https"
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(g.Path, "/"), "?")
	u := url.URL{Scheme: scheme, Host: net.JoinHostPort(host, strconv.Itoa(port)), Path: "/" + path, RawQuery: query}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	for _, h := range g.HTTPHeaders {
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := hookClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("GET %s: %s", u.String(), resp.Status)
	}
	return nil
}

func portNumber(p intstr.IntOrString, c *v1.Container) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	for _, have := range c.Ports {
		if have.Name == p.StrVal {
			return int(have.ContainerPort), nil
		}
	}
	if n, err := strconv.Atoi(p.StrVal); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("container %s has no port named %q", c.Name, p.StrVal)
}

// limited keeps the first bytes and swallows the rest. Both streams of a command write to it.
type limited struct {
	mu   sync.Mutex
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(b)
	if len(b) > l.left {
		b = b[:l.left]
	}
	l.left -= len(b)
	_, err := l.w.Write(b)
	return n, err
}
