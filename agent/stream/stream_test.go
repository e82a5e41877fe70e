package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/runtime"
	"coracle/internal/fault"
	"coracle/internal/testwait"
	nodev1 "coracle/proto/node/v1"
)

func execRequest(container string, tty bool) *nodev1.StreamRequest {
	return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Exec{Exec: &nodev1.Exec{
		PodUid: testUID, Container: container, Command: []string{"cat"}, Stdin: true, Stdout: true, Stderr: true, Tty: tty,
	}}}
}

func TestExecCarriesStreamsAndExitCode(t *testing.T) {
	w, u := newWorld(), newUser()
	var size runtime.Size
	w.exec = func(_ context.Context, spec runtime.ExecSpec) (int, error) {
		size = <-spec.Resize
		if _, err := io.Copy(spec.Stdout, spec.Stdin); err != nil {
			return 0, err
		}
		fmt.Fprint(spec.Stderr, "done")
		return 3, nil
	}
	u.says <- &nodev1.Frame{Resize: &nodev1.TerminalSize{Width: 80, Height: 25}}
	u.says <- &nodev1.Frame{Data: []byte("hello ")}
	u.says <- &nodev1.Frame{Data: []byte("world")}
	u.says <- &nodev1.Frame{Close: true}
	w.server("").Serve(t.Context(), execRequest("c", false), u)
	close(u.says)
	if u.text(nodev1.Frame_STDOUT) != "hello world" || u.text(nodev1.Frame_STDERR) != "done" || u.result.GetExitCode() != 3 || u.result.GetError() != "" {
		t.Errorf("out %q, err %q, result %v", u.text(nodev1.Frame_STDOUT), u.text(nodev1.Frame_STDERR), u.result)
	}
	if size != (runtime.Size{Width: 80, Height: 25}) {
		t.Errorf("size %v", size)
	}
}

func TestExecOfATerminalHasOneOutput(t *testing.T) {
	w, u := newWorld(), newUser()
	w.exec = func(_ context.Context, spec runtime.ExecSpec) (int, error) {
		if spec.Stderr != nil || !spec.TTY {
			return 0, errors.New("a terminal with a second output")
		}
		return 0, nil
	}
	w.server("").Serve(t.Context(), execRequest("c", true), u)
	close(u.says)
	if u.result.GetError() != "" {
		t.Error(u.result)
	}
}

func TestExecEndsWhenTheUserHasGone(t *testing.T) {
	w, u := newWorld(), newUser()
	w.exec = func(ctx context.Context, spec runtime.ExecSpec) (int, error) {
		_, err := io.Copy(io.Discard, spec.Stdin)
		<-ctx.Done()
		return 0, errors.Join(err, ctx.Err())
	}
	close(u.says)
	w.server("").Serve(t.Context(), execRequest("c", false), u)
	if !strings.Contains(u.result.GetError(), errGone.Error()) {
		t.Error(u.result)
	}
}

func TestErrorsHaveTheirReason(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*world) *nodev1.StreamRequest
		reason nodev1.Result_Reason
		text   string
	}{
		"pod of another node": {func(w *world) *nodev1.StreamRequest {
			w.assigned.UID = "other"
			return execRequest("c", false)
		}, nodev1.Result_NOT_FOUND, "not assigned to this node"},
		// Users can claim another pod's uid with the annotation of mirror pods.
		"pod by another name": {func(w *world) *nodev1.StreamRequest {
			req := execRequest("c", false)
			req.PodNamespace, req.PodName = w.assigned.Namespace, "another"
			return req
		}, nodev1.Result_NOT_FOUND, "is not one that this node runs from a file"},
		"pod by its name": {func(w *world) *nodev1.StreamRequest {
			req := execRequest("x", false)
			req.PodNamespace, req.PodName = w.assigned.Namespace, w.assigned.Name
			return req
		}, nodev1.Result_INVALID, `container not found ("x")`},
		"no such container": {func(*world) *nodev1.StreamRequest { return execRequest("x", false) }, nodev1.Result_INVALID, `container not found ("x")`},
		"container waits": {func(w *world) *nodev1.StreamRequest {
			w.containers = nil
			w.status = statusWith("", v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}})
			return execRequest("c", false)
		}, nodev1.Result_INVALID, "waiting to start: CrashLoopBackOff"},
		"runtime away": {func(w *world) *nodev1.StreamRequest {
			w.exec = func(context.Context, runtime.ExecSpec) (int, error) {
				return 0, fault.As(fault.ErrUnavailable, errors.New("containerd is away"))
			}
			return execRequest("c", false)
		}, nodev1.Result_UNAVAILABLE, "containerd is away"},
		"unknown request": {func(*world) *nodev1.StreamRequest { return &nodev1.StreamRequest{} }, nodev1.Result_INVALID, "older than the control plane"},
		"port of nobody": {func(*world) *nodev1.StreamRequest {
			return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Dial{Dial: &nodev1.Dial{PodUid: testUID, Port: 1}}}
		}, nodev1.Result_UNAVAILABLE, "connection refused"},
		"node without handler": {func(*world) *nodev1.StreamRequest {
			return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Dial{Dial: &nodev1.Dial{}}}
		}, nodev1.Result_UNAVAILABLE, "listens on no port"},
	} {
		t.Run(name, func(t *testing.T) {
			w, u := newWorld(), newUser()
			req := tc.change(w)
			w.server(t.TempDir()).Serve(t.Context(), req, u)
			close(u.says)
			if u.result.GetReason() != tc.reason || !strings.Contains(u.result.GetError(), tc.text) {
				t.Errorf("got %v, want %v with %q", u.result, tc.reason, tc.text)
			}
		})
	}
}

func TestDialCarriesBytesBothWaysAndHalfCloses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w, u := newWorld(), newUser()
	defer close(u.says)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer testwait.End(t, "both ends", wg.Wait)
	defer cancel()
	defer l.Close()
	wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn) // needs the end of input
		fmt.Fprintf(conn, "got %d", len(all))
	})
	big := strings.Repeat("x", 100_000)
	wg.Go(func() {
		frames := []*nodev1.Frame{}
		for part := range slices.Chunk([]byte(big), 1000) {
			frames = append(frames, &nodev1.Frame{Data: part})
		}
		for _, f := range append(frames, &nodev1.Frame{Close: true}) {
			select {
			case u.says <- f:
			case <-ctx.Done():
				return
			}
		}
	})
	w.assigned.Spec.HostNetwork = true
	port := l.Addr().(*net.TCPAddr).Port
	w.server("").Serve(t.Context(), &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Dial{Dial: &nodev1.Dial{PodUid: testUID, Port: int32(port), InNetns: true}}}, u)
	if got := u.text(nodev1.Frame_STDOUT); got != "got 100000" || u.result.GetError() != "" {
		t.Errorf("got %q, %v", got, u.result)
	}
}

func TestNodeHandlerIsReachedWithoutAPort(t *testing.T) {
	w, u := newWorld(), newUser()
	s := w.server("")
	s.c.Node = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	u.says <- &nodev1.Frame{Data: []byte("GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n")}
	s.Serve(t.Context(), &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Dial{Dial: &nodev1.Dial{}}}, u)
	close(u.says)
	if got := u.text(nodev1.Frame_STDOUT); !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, "ok") {
		t.Errorf("got %q, %v", got, u.result)
	}
}
