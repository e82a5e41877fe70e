package podstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// forwardREST is pods/portforward.
type forwardREST struct{ c Config }

var _ rest.Connecter = &forwardREST{}

// New implements rest.Storage.
func (r *forwardREST) New() runtime.Object { return &v1.PodPortForwardOptions{} }

// Destroy implements rest.Storage.
func (r *forwardREST) Destroy() {}

// NewConnectOptions implements rest.Connecter.
func (r *forwardREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &v1.PodPortForwardOptions{}, false, ""
}

// ConnectMethods implements rest.Connecter.
func (r *forwardREST) ConnectMethods() []string { return upgradeMethods }

// Connect implements rest.Connecter.
func (r *forwardREST) Connect(ctx context.Context, name string, _ runtime.Object, responder rest.Responder) (http.Handler, error) {
	pod, err := r.c.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	if pod.Status.Phase != v1.PodRunning {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("unable to forward port because pod is not running. Current status=%v", pod.Status.Phase))
	}
	serve := http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		if !httpstream.IsUpgradeRequest(hr) && !wsstream.IsWebSocketRequest(hr) {
			responder.Error(apierrors.NewBadRequest("Upgrade request required"))
			return
		}
		opts, err := portforward.NewV4Options(hr)
		if err != nil {
			responder.Error(apierrors.NewBadRequest(err.Error()))
			return
		}
		portforward.ServePortForward(w, hr, &forwarder{c: r.c, pod: pod}, pod.Name, string(pod.UID), opts, idleTimeout, creationTimeout, portforward.SupportedProtocols)
	})
	// Newer clients wrap SPDY in a WebSocket; the library unwraps it and expects to speak to a server's response.
	tunnel := proxy.NewTunnelingHandler(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		serve.ServeHTTP(&tunnelWriter{ResponseWriter: w, header: http.Header{}}, hr)
	}))
	return proxy.NewTranslatingHandler(serve, tunnel, wsstream.IsWebSocketRequestWithTunnelingProtocol), nil
}

// forwarder carries the connections of one port-forward, each over a stream of its own.
type forwarder struct {
	c   Config
	pod *v1.Pod
}

// PortForward implements portforward.PortForwarder.
func (f *forwarder) PortForward(ctx context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	conn, err := f.c.dial(ctx, f.pod.Spec.NodeName, f.pod, port, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	// To the port in a goroutine that ends when the client closes, which the caller brings about.
	go func() {
		if _, err := io.Copy(conn, stream); err == nil {
			if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
				return
			}
		}
		_ = conn.Close()
	}()
	if _, err := io.Copy(stream, conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return nil
}

// tunnelWriter writes the response of an upgrade onto the hijacked connection, where the
// tunnel looks for it: net/http's server would do so for a connection of its own.
type tunnelWriter struct {
	http.ResponseWriter
	header   http.Header
	switched bool
}

// Header implements http.ResponseWriter.
func (w *tunnelWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *tunnelWriter) WriteHeader(code int) {
	if code == http.StatusSwitchingProtocols {
		w.switched = true
		return
	}
	for k, v := range w.header {
		w.ResponseWriter.Header()[k] = v
	}
	w.ResponseWriter.WriteHeader(code)
}

// Hijack implements http.Hijacker.
func (w *tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hijacker, ok := w.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("the connection cannot be taken over")
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	if w.switched {
		response := &http.Response{StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: w.header}
		if err := response.Write(conn); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("answer the upgrade: %w", err), conn.Close())
		}
	}
	return conn, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn)), nil
}
