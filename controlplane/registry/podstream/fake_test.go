package podstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	restclient "k8s.io/client-go/rest"

	coracleapi "coracle/controlplane/api"
	nodev1 "coracle/proto/node/v1"
)

// agent is the other end of every stream: what a node's agent does, in memory.
type agent struct {
	mu    sync.Mutex
	asked []*nodev1.StreamRequest
	ports map[int32]string // to loopback addresses
	sizes chan *nodev1.TerminalSize
	log   string
	fail  *nodev1.Result // said at once
}

// pipe is one direction of frames.
type end struct {
	in, out chan *nodev1.Frame
	done    chan struct{}
	once    *sync.Once
}

func (e *end) Send(f *nodev1.Frame) error {
	data := append([]byte(nil), f.GetData()...) // as gRPC does: the buffer is the caller's again
	select {
	case e.out <- &nodev1.Frame{Channel: f.GetChannel(), Data: data, Close: f.GetClose(), Resize: f.GetResize(), Result: f.GetResult()}:
		return nil
	case <-e.done:
		return io.ErrClosedPipe
	}
}

func (e *end) Recv() (*nodev1.Frame, error) {
	select {
	case f, ok := <-e.in:
		if ok {
			return f, nil
		}
		return nil, io.EOF
	case <-e.done:
		return nil, io.ErrClosedPipe
	}
}

func (e *end) Close() error {
	e.once.Do(func() { close(e.done) })
	return nil
}

// Open implements Streams.
func (a *agent) Open(_ context.Context, node string, req *nodev1.StreamRequest) (Stream, error) {
	if node != "n1" {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("the agent of node %q is not connected", node))
	}
	a.mu.Lock()
	a.asked = append(a.asked, req)
	a.mu.Unlock()
	to, from, done, once := make(chan *nodev1.Frame), make(chan *nodev1.Frame, 8), make(chan struct{}), &sync.Once{}
	there := &end{in: to, out: from, done: done, once: once}
	go func() {
		defer close(from)
		a.serve(req, there)
	}()
	return &end{in: from, out: to, done: done, once: once}, nil
}

func (a *agent) serve(req *nodev1.StreamRequest, s *end) {
	if a.fail != nil {
		_ = s.Send(&nodev1.Frame{Result: a.fail})
		return
	}
	switch r := req.GetRequest().(type) {
	case *nodev1.StreamRequest_Exec:
		a.cat(r.Exec.GetStdin(), s, int32(len(r.Exec.GetCommand())))
	case *nodev1.StreamRequest_Attach:
		a.cat(r.Attach.GetStdin(), s, 0)
	case *nodev1.StreamRequest_Logs:
		_ = s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT})
		_ = s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT, Data: []byte(a.log)})
		_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{}})
	case *nodev1.StreamRequest_Dial:
		a.dial(r.Dial, s)
	}
}

// cat echoes the input, says "end" on the second output, and ends with the code.
func (a *agent) cat(stdin bool, s *end, code int32) {
	for stdin {
		f, err := s.Recv()
		if err != nil {
			return
		}
		if f.GetResize() != nil {
			a.sizes <- f.GetResize()
			continue
		}
		if len(f.GetData()) > 0 && s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT, Data: f.GetData()}) != nil {
			return
		}
		stdin = !f.GetClose()
	}
	_ = s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDERR, Data: []byte("end")})
	_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{ExitCode: code}})
}

func (a *agent) dial(d *nodev1.Dial, s *end) {
	conn, err := net.Dial("tcp", a.ports[d.GetPort()])
	if err != nil {
		_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{Error: "connection refused", Reason: nodev1.Result_UNAVAILABLE}})
		return
	}
	defer conn.Close()
	_ = s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT})
	go func() {
		for {
			f, err := s.Recv()
			if err != nil {
				_ = conn.Close()
				return
			}
			_, _ = conn.Write(f.GetData())
			if f.GetClose() {
				_ = conn.(*net.TCPConn).CloseWrite()
			}
		}
	}()
	buf := make([]byte, 1000)
	for {
		n, err := conn.Read(buf)
		if n > 0 && s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT, Data: buf[:n]}) != nil {
			return
		}
		if err != nil {
			_ = s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT, Close: true})
			_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{}})
			return
		}
	}
}

// objects is a Getter of one kind.
type objects map[string]runtime.Object

func (o objects) Get(_ context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	if obj := o[name]; obj != nil {
		return obj, nil
	}
	return nil, apierrors.NewNotFound(v1.Resource("pods"), name)
}

// namespaced is a Getter of a kind that lives in namespaces: as with the store, the context has to name one.
type namespaced struct{ objects }

func (n namespaced) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	if genericapirequest.NamespaceValue(ctx) == "" {
		return nil, apierrors.NewBadRequest("the context names no namespace")
	}
	return n.objects.Get(ctx, name, options)
}

func testPod(name, node string, containers ...string) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "uid-1"}, Spec: v1.PodSpec{NodeName: node},
		Status: v1.PodStatus{Phase: v1.PodRunning, PodIP: "192.0.2.7"},
	}
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: c, Ports: []v1.ContainerPort{{Name: "web", ContainerPort: 8080}}})
	}
	return p
}

// api serves the storages as the API server does, for as much as they notice.
type api struct {
	agent   *agent
	config  Config
	pods    objects
	slices  []*discoveryv1.EndpointSlice
	storage map[string]rest.Storage
	server  *httptest.Server
}

func newAPI(t *testing.T) *api {
	t.Helper()
	a := &api{agent: &agent{ports: map[int32]string{}, sizes: make(chan *nodev1.TerminalSize, 8)}, pods: objects{
		"web": testPod("web", "n1", "c"), "two": testPod("two", "n1", "a", "b"), "away": testPod("away", "n2", "c"), "nowhere": testPod("nowhere", "", "c"),
	}}
	a.pods["done"] = testPod("done", "n1", "c")
	a.pods["done"].(*v1.Pod).Status.Phase = v1.PodSucceeded
	a.pods["two"].(*v1.Pod).Spec.InitContainers = []v1.Container{{Name: "i"}}
	a.config = Config{
		Pods: namespaced{a.pods}, Nodes: objects{"n1": &v1.Node{}}, Streams: a.agent,
		Services:       namespaced{objects{"svc": &v1.Service{ObjectMeta: metav1.ObjectMeta{Name: "svc"}, Spec: v1.ServiceSpec{Ports: []v1.ServicePort{{Name: "http", Port: 80}}}}}},
		EndpointSlices: func(string, string) ([]*discoveryv1.EndpointSlice, error) { return a.slices, nil },
	}
	a.storage = New(a.config)
	a.server = httptest.NewServer(a)
	t.Cleanup(a.server.Close)
	return a
}

// ServeHTTP serves /RESOURCE/SUBRESOURCE/NAME/PATH.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 4)
	storage := a.storage[parts[0]+"/"+parts[1]]
	ctx := genericapirequest.WithNamespace(r.Context(), "default")
	respond := &responder{w: w}
	if l, ok := storage.(rest.GetterWithOptions); ok {
		a.stream(ctx, l, parts[2], respond, r)
		return
	}
	c := storage.(rest.Connecter)
	opts, sub, _ := c.NewConnectOptions()
	if err := coracleapi.ParameterCodec.DecodeParameters(r.URL.Query(), v1.SchemeGroupVersion, opts); err != nil {
		respond.Error(apierrors.NewBadRequest(err.Error()))
		return
	}
	if sub && len(parts) > 3 {
		switch o := opts.(type) {
		case *v1.PodProxyOptions:
			o.Path = parts[3]
		case *v1.ServiceProxyOptions:
			o.Path = parts[3]
		case *v1.NodeProxyOptions:
			o.Path = parts[3]
		}
	}
	h, err := c.Connect(ctx, parts[2], opts, respond)
	if err != nil {
		respond.Error(err)
		return
	}
	h.ServeHTTP(w, r) // the namespace is in ctx alone
}

func (a *api) stream(ctx context.Context, l rest.GetterWithOptions, name string, respond *responder, r *http.Request) {
	opts, _, _ := l.NewGetOptions()
	if err := coracleapi.ParameterCodec.DecodeParameters(r.URL.Query(), v1.SchemeGroupVersion, opts); err != nil {
		respond.Error(apierrors.NewBadRequest(err.Error()))
		return
	}
	obj, err := l.Get(ctx, name, opts)
	if err != nil {
		respond.Error(err)
		return
	}
	body, _, mime, err := obj.(rest.ResourceStreamer).InputStream(ctx, "v1", "")
	if err != nil {
		respond.Error(err)
		return
	}
	defer body.Close()
	respond.w.Header().Set("Content-Type", mime)
	_, _ = io.Copy(respond.w, body)
}

type responder struct{ w http.ResponseWriter }

func (r *responder) Object(code int, obj runtime.Object) { r.w.WriteHeader(code) }

func (r *responder) Error(err error) {
	status := apierrors.NewInternalError(err).Status()
	if s, ok := err.(apierrors.APIStatus); ok {
		status = s.Status()
	}
	status.Kind, status.APIVersion = "Status", "v1"
	r.w.Header().Set("Content-Type", "application/json")
	r.w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(r.w).Encode(status)
}

func (a *api) client() *restclient.Config { return &restclient.Config{Host: a.server.URL} }
