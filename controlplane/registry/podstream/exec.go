package podstream

import (
	"context"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	nodev1 "coracle/proto/node/v1"
)

const (
	// idleTimeout ends a session over which nothing travels; Kubernetes' default.
	idleTimeout = 4 * time.Hour
	// creationTimeout is how long a client may take to open its streams after the upgrade.
	creationTimeout = 30 * time.Second
)

// execREST is pods/exec.
type execREST struct{ c Config }

var _ rest.Connecter = &execREST{}

// New implements rest.Storage.
func (r *execREST) New() runtime.Object { return &v1.PodExecOptions{} }

// Destroy implements rest.Storage.
func (r *execREST) Destroy() {}

// NewConnectOptions implements rest.Connecter.
func (r *execREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &v1.PodExecOptions{}, false, ""
}

// ConnectMethods implements rest.Connecter.
func (r *execREST) ConnectMethods() []string { return upgradeMethods }

// Connect implements rest.Connecter.
func (r *execREST) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	opts, ok := options.(*v1.PodExecOptions)
	if !ok {
		return nil, apierrors.NewBadRequest("invalid options object")
	}
	pod, err := r.c.live(ctx, name, "exec into")
	if err != nil {
		return nil, err
	}
	target, err := container(pod, opts.Container)
	if err != nil {
		return nil, err
	}
	if len(opts.Command) == 0 {
		return nil, apierrors.NewBadRequest("you must specify a command for the container")
	}
	streams, err := streamsOf(opts.Stdin, opts.Stdout, opts.Stderr, opts.TTY)
	if err != nil {
		return nil, err
	}
	req := &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Exec{Exec: &nodev1.Exec{
		PodUid: string(pod.UID), Container: target, Command: opts.Command,
		Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, Tty: streams.TTY,
	}}}
	return r.c.command(pod, req, streams, responder, func(w http.ResponseWriter, hr *http.Request, rel *relay) {
		remotecommand.ServeExec(w, hr, rel, pod.Name, string(pod.UID), target, opts.Command, streams, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	}), nil
}

// attachREST is pods/attach.
type attachREST struct{ c Config }

var _ rest.Connecter = &attachREST{}

// New implements rest.Storage.
func (r *attachREST) New() runtime.Object { return &v1.PodAttachOptions{} }

// Destroy implements rest.Storage.
func (r *attachREST) Destroy() {}

// NewConnectOptions implements rest.Connecter.
func (r *attachREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &v1.PodAttachOptions{}, false, ""
}

// ConnectMethods implements rest.Connecter.
func (r *attachREST) ConnectMethods() []string { return upgradeMethods }

// Connect implements rest.Connecter.
func (r *attachREST) Connect(ctx context.Context, name string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	opts, ok := options.(*v1.PodAttachOptions)
	if !ok {
		return nil, apierrors.NewBadRequest("invalid options object")
	}
	pod, err := r.c.live(ctx, name, "attach to")
	if err != nil {
		return nil, err
	}
	target, err := container(pod, opts.Container)
	if err != nil {
		return nil, err
	}
	streams, err := streamsOf(opts.Stdin, opts.Stdout, opts.Stderr, opts.TTY)
	if err != nil {
		return nil, err
	}
	req := &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Attach{Attach: &nodev1.Attach{
		PodUid: string(pod.UID), Container: target, Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr, Tty: streams.TTY,
	}}}
	return r.c.command(pod, req, streams, responder, func(w http.ResponseWriter, hr *http.Request, rel *relay) {
		remotecommand.ServeAttach(w, hr, rel, pod.Name, string(pod.UID), target, streams, idleTimeout, creationTimeout, remotecommand.SupportedStreamingProtocols)
	}), nil
}

// streamsOf checks which streams a client asks for. A terminal has one output.
func streamsOf(stdin, stdout, stderr, tty bool) (*remotecommand.Options, error) {
	if tty && stderr {
		stderr = false
	}
	if !stdin && !stdout && !stderr {
		return nil, apierrors.NewBadRequest("you must specify at least 1 of stdin, stdout, stderr")
	}
	return &remotecommand.Options{Stdin: stdin, Stdout: stdout, Stderr: stderr, TTY: tty}, nil
}

// command opens the stream, so that its errors are plain HTTP ones, and then has the protocol of the client's choice served.
func (c Config) command(pod *v1.Pod, req *nodev1.StreamRequest, streams *remotecommand.Options, responder rest.Responder, serve func(http.ResponseWriter, *http.Request, *relay)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		if !httpstream.IsUpgradeRequest(hr) && !wsstream.IsWebSocketRequest(hr) {
			// Asked before the command runs: it would have no streams.
			responder.Error(apierrors.NewBadRequest("Upgrade request required"))
			return
		}
		stream, err := c.Streams.Open(hr.Context(), pod.Spec.NodeName, about(pod, req))
		if err != nil {
			responder.Error(err)
			return
		}
		defer func() { _ = stream.Close() }() // never fails
		rel := &relay{stream: stream}
		w = lingerWriter{w}
		if wsstream.IsWebSocketRequestWithStreamCloseProtocol(hr) {
			serveV5(w, hr, rel, streams)
			return
		}
		serve(w, hr, rel)
	})
}
