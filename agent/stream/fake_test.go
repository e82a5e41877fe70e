package stream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/runtime"
	"coracle/internal/fault"
	"coracle/internal/testwait"
	nodev1 "coracle/proto/node/v1"
)

// user is the other end of a stream.
type user struct {
	says chan *nodev1.Frame // closed: has gone

	mu     sync.Mutex
	out    map[nodev1.Frame_Channel]*bytes.Buffer
	result *nodev1.Result
	frames int
	heard  chan struct{} // one slot: something came
}

func newUser() *user {
	return &user{says: make(chan *nodev1.Frame, 16), out: map[nodev1.Frame_Channel]*bytes.Buffer{}, heard: make(chan struct{}, 1)}
}

func (u *user) Send(f *nodev1.Frame) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.result != nil {
		return fmt.Errorf("a frame after the result: %v", f)
	}
	u.frames++
	if u.out[f.GetChannel()] == nil {
		u.out[f.GetChannel()] = &bytes.Buffer{}
	}
	u.out[f.GetChannel()].Write(f.GetData())
	u.result = f.GetResult()
	select {
	case u.heard <- struct{}{}:
	default:
	}
	return nil
}

func (u *user) Recv() (*nodev1.Frame, error) {
	f, ok := <-u.says
	if !ok {
		return nil, io.EOF
	}
	return f, nil
}

func (u *user) text(c nodev1.Frame_Channel) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.out[c] == nil {
		return ""
	}
	return u.out[c].String()
}

// until waits for the condition, which is looked at whenever something was heard.
func (u *user) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for !cond() {
		testwait.Receive(t, what, u.heard)
	}
}

const testUID = "0123-uid"

// world is the rest of the agent.
type world struct {
	mu         sync.Mutex
	assigned   *v1.Pod
	status     v1.PodStatus
	containers []pod.Container
	netns      string
	exec       func(ctx context.Context, spec runtime.ExecSpec) (int, error)
	onLast     func() // called when the status is asked for
}

func newWorld() *world {
	return &world{
		assigned:   &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: testUID}},
		containers: []pod.Container{{ID: "01-c-0", Name: "c", State: pod.Running}},
		status:     statusWith("01-c-0", v1.ContainerState{Running: &v1.ContainerStateRunning{}}),
	}
}

func statusWith(id string, state v1.ContainerState) v1.PodStatus {
	return v1.PodStatus{PodIP: "127.0.0.1", ContainerStatuses: []v1.ContainerStatus{{Name: "c", ContainerID: "containerd://" + id, State: state}}}
}

func (w *world) set(s v1.PodStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = s
}

func (w *world) Pod(uid types.UID) (*v1.Pod, bool) { return w.assigned, w.assigned.UID == uid }

func (w *world) Last(types.UID) (v1.PodStatus, bool, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onLast != nil {
		w.onLast()
	}
	return w.status, false, true
}

func (w *world) Observe(context.Context, types.UID) (pod.Observed, error) {
	return pod.Observed{UID: testUID, Containers: w.containers, Sandbox: &pod.Sandbox{NetnsPath: w.netns}}, nil
}

func (w *world) Exec(ctx context.Context, id string, spec runtime.ExecSpec) (int, error) {
	if id != "01-c-0" {
		return 0, fault.As(fault.ErrNotFound, fmt.Errorf("no container %s", id))
	}
	return w.exec(ctx, spec)
}

func (w *world) Attach(ctx context.Context, id string, spec runtime.AttachSpec) error {
	_, err := w.Exec(ctx, id, runtime.ExecSpec{TTY: spec.TTY, Stdin: spec.Stdin, Stdout: spec.Stdout, Stderr: spec.Stderr, Resize: spec.Resize})
	return err
}

func (w *world) server(logDir string) *Server {
	return New(Config{Pods: w, Statuses: w, Runtime: w, LogDir: logDir, Log: slog.New(slog.DiscardHandler)})
}
