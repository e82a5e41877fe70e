package podstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	constants "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	utilexec "k8s.io/utils/exec"
)

// lastWords bounds writing the final status to a client that may be gone.
const lastWords = 10 * time.Second

// serveV5 speaks v5.channel.k8s.io, which adds to v4 a way to end the input. The library's
// server side stops at v4, as kubelets are asked over SPDY; here there is no second hop.
func serveV5(w http.ResponseWriter, req *http.Request, rel *relay, opts *remotecommand.Options) {
	channels := make([]wsstream.ChannelType, 5)
	channels[constants.StreamStdIn] = either(opts.Stdin, wsstream.ReadChannel)
	channels[constants.StreamStdOut] = either(opts.Stdout, wsstream.WriteChannel)
	channels[constants.StreamStdErr] = either(opts.Stderr, wsstream.WriteChannel)
	channels[constants.StreamErr] = wsstream.WriteChannel
	channels[constants.StreamResize] = wsstream.ReadChannel
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{constants.StreamProtocolV5Name: {Binary: true, Channels: channels}})
	conn.SetIdleTimeout(idleTimeout)
	_, streams, err := conn.Open(w, req)
	if err != nil {
		return // the library has answered the client
	}
	defer func() { _ = conn.Close() }() // the client has been told all
	// An empty message tells the client that the connection stands.
	first := constants.StreamErr
	if opts.Stdout {
		first = constants.StreamStdOut
	} else if opts.Stderr {
		first = constants.StreamStdErr
	}
	if _, err := streams[first].Write(nil); err != nil {
		return
	}
	var in io.Reader
	var out, errOut io.Writer
	if opts.Stdin {
		in = streams[constants.StreamStdIn]
	}
	if opts.Stdout {
		out = streams[constants.StreamStdOut]
	}
	if opts.Stderr {
		errOut = streams[constants.StreamStdErr]
	}
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	sizes := make(chan remotecommand.TerminalSize)
	go decodeSizes(ctx, streams[constants.StreamResize], sizes) // ends with the connection
	status := statusOf(rel.run(ctx, in, out, errOut, sizes))
	if text, err := json.Marshal(status); err == nil {
		conn.SetWriteDeadline(lastWords)
		_, _ = streams[constants.StreamErr].Write(text) // a client that is gone needs no status
	}
}

func either(asked bool, t wsstream.ChannelType) wsstream.ChannelType {
	if asked {
		return t
	}
	return wsstream.IgnoreChannel
}

// decodeSizes reads the terminal sizes a client sends.
func decodeSizes(ctx context.Context, from io.Reader, to chan<- remotecommand.TerminalSize) {
	defer close(to)
	d := json.NewDecoder(from)
	for {
		var size remotecommand.TerminalSize
		if d.Decode(&size) != nil {
			return
		}
		select {
		case to <- size:
		case <-ctx.Done():
			return
		}
	}
}

// statusOf is how v4 and v5 tell the end of a command.
func statusOf(err error) metav1.Status {
	if err == nil {
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	var code utilexec.ExitError
	if errors.As(err, &code) && code.Exited() {
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: constants.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %s", err),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: constants.ExitCodeCauseType, Message: fmt.Sprint(code.ExitStatus())}}},
		}
	}
	return apierrors.NewInternalError(fmt.Errorf("error executing command in container: %w", err)).ErrStatus
}
