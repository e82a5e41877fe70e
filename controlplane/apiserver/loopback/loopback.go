// Package loopback carries the requests of a process to its own API server without a connection.
//
// The handler is called in the caller's goroutine, and only what streams (a watch) gets one of its own. Of the server's
// filters those are left out that judge callers, as who calls here is known and has every right: authentication,
// authorisation, limits on requests in flight, auditing. As on a connection, nothing of the caller's context reaches the
// handler but its end.
package loopback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	"k8s.io/client-go/rest"
)

var (
	errNotServing = errors.New("the API server of this process has stopped")
	errAborted    = errors.New("the API server of this process gave up on the request")
)

// Transport is an http.RoundTripper to the server of this process. Requests made before Serve wait, as they would in a
// listener's backlog; after Close they fail. Safe for concurrent use.
type Transport struct {
	ready     chan struct{} // closed when server and handler are set
	server    Server
	handler   http.Handler
	values    context.Context // of all requests: who asks
	base      context.Context // of those that stream: ends with the server
	stop      context.CancelFunc
	streaming sync.WaitGroup
}

// Server is what answers. All fields are required.
type Server struct {
	// Handler answers requests that were let in: the server without its filters.
	Handler  http.Handler
	Resolver request.RequestInfoResolver
	// Streams says which requests last, and Timeout how long others may.
	Streams request.LongRunningRequestCheck
	Timeout time.Duration
	// InFlight counts the requests that a server which stops waits for.
	InFlight genericfilters.RequestWaitGroup
	// Complete are closed when every path is installed.
	Complete map[string]<-chan struct{}
}

// New returns a transport that waits for its server.
func New() *Transport {
	t := &Transport{ready: make(chan struct{})}
	t.values = audit.WithAuditContext(request.WithUser(context.Background(), caller))
	// Handlers want to be told that nothing is audited; an error would say that they have been told before.
	_ = audit.AuditContextFrom(t.values).Init(audit.RequestAuditConfig{Level: auditinternal.LevelNone}, nil)
	t.base, t.stop = context.WithCancel(t.values)
	return t
}

// Serve has requests answered by the server from now on. It is called once.
func (t *Transport) Serve(s Server) {
	h := genericfilters.WithWaitGroup(s.Handler, s.Streams, s.InFlight)
	h = t.untilComplete(h, s.Complete)
	t.handler = genericfilters.WithPanicRecovery(h, s.Resolver)
	t.server = s
	close(t.ready)
}

// untilComplete has what is unknown be "unavailable" and not "not found", on which controllers would act, until every path
// is installed.
func (t *Transport) untilComplete(h http.Handler, signals map[string]<-chan struct{}) http.Handler {
	before := genericapifilters.WithMuxAndDiscoveryComplete(h, make(chan struct{}))
	var complete atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if complete.Load() {
			h.ServeHTTP(w, r)
			return
		}
		for _, signal := range signals {
			select {
			case <-signal:
			default:
				before.ServeHTTP(w, r)
				return
			}
		}
		complete.Store(true)
		h.ServeHTTP(w, r)
	})
}

// Close refuses new requests, ends those that stream and waits for them.
func (t *Transport) Close() {
	t.stop()
	t.streaming.Wait()
}

// Config is a client configuration that goes this way.
func (t *Transport) Config() *rest.Config {
	return &rest.Config{Host: "http://loopback", Transport: t}
}

// caller is who the requests of this process come from, as the library's loopback client has it.
var caller = &user.DefaultInfo{Name: user.APIServerUser, Groups: []string{user.AllAuthenticated, user.SystemPrivilegedGroup}}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(out *http.Request) (*http.Response, error) {
	if out.Body != nil {
		defer out.Body.Close()
	}
	select {
	case <-t.ready:
	case <-out.Context().Done():
		return nil, out.Context().Err()
	case <-t.base.Done():
	}
	if t.base.Err() != nil {
		return nil, errNotServing
	}
	info, err := t.server.Resolver.NewRequestInfo(out)
	if err != nil {
		return nil, fmt.Errorf("resolve request %s: %w", out.URL.Path, err)
	}
	if t.server.Streams(out, info) {
		return t.stream(out, info)
	}
	ctx, cancel := context.WithTimeout(t.values, t.server.Timeout)
	defer cancel()
	defer context.AfterFunc(out.Context(), cancel)()
	w := &answer{header: http.Header{}}
	aborted := t.call(w, incoming(ctx, out, info))
	if err := out.Context().Err(); err != nil {
		return nil, err
	}
	if aborted {
		return nil, errAborted
	}
	return response(out, w.header, w.status(), io.NopCloser(&w.body), int64(w.body.Len())), nil
}

// stream returns when the headers are there; the handler goes on until it or the caller ends the body.
func (t *Transport) stream(out *http.Request, info *request.RequestInfo) (*http.Response, error) {
	ctx, cancel := context.WithCancel(t.base)
	w := newStream(cancel)
	atCaller := context.AfterFunc(out.Context(), func() { w.end(out.Context().Err()) })
	atServer := context.AfterFunc(t.base, func() { w.end(errNotServing) })
	in := incoming(ctx, out, info)
	t.streaming.Go(func() {
		defer atCaller()
		defer atServer()
		if t.call(w, in) {
			w.end(io.ErrUnexpectedEOF)
		} else {
			w.end(io.EOF)
		}
	})
	<-w.started
	if err := out.Context().Err(); err != nil {
		return nil, err
	}
	return response(out, w.header, w.code, w, -1), nil
}

// call runs the handler and stops panics, as a server does for each of its connections. They have been logged by then; that
// of http.ErrAbortHandler is how a handler gives up.
func (t *Transport) call(w http.ResponseWriter, in *http.Request) (aborted bool) {
	defer func() { aborted = recover() != nil }()
	t.handler.ServeHTTP(w, in)
	return false
}

// incoming is the request as a server has it.
func incoming(ctx context.Context, out *http.Request, info *request.RequestInfo) *http.Request {
	ctx = request.WithReceivedTimestamp(ctx, time.Now())
	in := out.WithContext(request.WithRequestInfo(ctx, info))
	in.RequestURI = out.URL.RequestURI()
	in.RemoteAddr = "loopback"
	if in.Host == "" {
		in.Host = out.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	return in
}

func response(out *http.Request, header http.Header, code int, body io.ReadCloser, length int64) *http.Response {
	return &http.Response{
		Status: http.StatusText(code), StatusCode: code, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: header, Body: body, ContentLength: length, Request: out,
	}
}

// answer is a whole response.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	if a.code == 0 && code >= http.StatusOK {
		a.code = code
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) status() int {
	a.WriteHeader(http.StatusOK)
	return a.code
}
