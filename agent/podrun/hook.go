package podrun

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/probe"
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

// hookAgent is how servers know the requests of hooks.
const hookAgent = "kube-lifecycle/1.37"

// get makes a hook's request. As in Kubernetes any answer is a good one, whatever its code, and where
// HTTPS was asked for and the server speaks HTTP alone the request is made once more in that.
func get(ctx context.Context, g *v1.HTTPGetAction, ip string, ports []v1.ContainerPort) error {
	_, _, err := probe.Get(ctx, g, ip, ports, hookAgent)
	if errors.Is(err, http.ErrSchemeMismatch) {
		plain := g.DeepCopy()
		plain.Scheme = v1.URISchemeHTTP
		_, _, err = probe.Get(ctx, plain, ip, ports, hookAgent)
	}
	return err
}

// runHandler runs one lifecycle handler to its end.
func runHandler(ctx context.Context, h *v1.LifecycleHandler, t hookTarget) error {
	switch {
	case h.Exec != nil:
		out := &probe.Output{Left: hookOutputMax}
		code, err := t.runtime.Exec(ctx, t.id, runtime.ExecSpec{Command: h.Exec.Command, Stdout: out, Stderr: out})
		if err != nil {
			return fmt.Errorf("command %q: %w", strings.Join(h.Exec.Command, " "), err)
		}
		if code != 0 {
			return fmt.Errorf("command %q exited with %d: %s", strings.Join(h.Exec.Command, " "), code, strings.TrimSpace(out.String()))
		}
		return nil
	case h.HTTPGet != nil:
		ip := ""
		if len(t.ips) > 0 {
			ip = t.ips[0]
		}
		return get(ctx, h.HTTPGet, ip, t.container.Ports)
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
