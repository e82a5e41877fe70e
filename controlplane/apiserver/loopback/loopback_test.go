package loopback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/waitgroup"
	"k8s.io/apiserver/pkg/audit"
	genericapifilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

const patience = 30 * time.Second

// serveTest has requests answered by h.
func serveTest(t *testing.T, h http.HandlerFunc) (*Transport, *http.Client) {
	t.Helper()
	l := New()
	t.Cleanup(l.Close)
	installed := make(chan struct{})
	close(installed)
	l.Serve(Server{
		Handler:  h,
		Resolver: &request.RequestInfoFactory{APIPrefixes: sets.NewString("api"), GrouplessAPIPrefixes: sets.NewString("api")},
		Streams:  genericfilters.BasicLongRunningRequestCheck(sets.NewString("watch"), sets.NewString()),
		Timeout:  patience, InFlight: &waitgroup.SafeWaitGroup{}, Complete: map[string]<-chan struct{}{"all": installed},
	})
	return l, &http.Client{Transport: l}
}

func get(t *testing.T, c *http.Client, ctx context.Context, path string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://loopback"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(req)
}

const watchPath = "/api/v1/pods?watch=true"

func TestLoopbackCarriesARequest(t *testing.T) {
	type key struct{}
	_, c := serveTest(t, func(w http.ResponseWriter, r *http.Request) {
		who, _ := request.UserFrom(r.Context())
		info, _ := request.RequestInfoFrom(r.Context())
		body, err := io.ReadAll(r.Body)
		if r.Context().Value(key{}) != nil || audit.AuditContextFrom(r.Context()).Enabled() {
			t.Error("the context of the caller reaches the handler")
		}
		w.Header().Set("X-Test", "yes")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %v %s %s %q %v", who.GetName(), who.GetGroups(), info.Verb, info.Resource, body, err)
	})
	ctx := context.WithValue(t.Context(), key{}, "x")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://loopback/api/v1/namespaces/n/pods", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	want := `system:apiserver [system:authenticated system:masters] create pods "hello" <nil>`
	if err != nil || resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Test") != "yes" || string(body) != want {
		t.Errorf("got %d %v %q, %v", resp.StatusCode, resp.Header, body, err)
	}
}

func TestLoopbackClientUnderstandsErrors(t *testing.T) {
	l, _ := serveTest(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"pods \"p\" not found","code":404}`)
	})
	client, err := corev1client.NewForConfig(l.Config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Pods("n").Get(t.Context(), "p", metav1.GetOptions{}); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), `pods "p"`) {
		t.Errorf("got %v", err)
	}
}

func TestLoopbackRequestEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, c := serveTest(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		select {
		case <-r.Context().Done():
		case <-time.After(patience):
			t.Error("the handler is not told that its caller is gone")
		}
	})
	resp, err := get(t, c, ctx, "/api/v1/pods")
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLoopbackHandlerPanics(t *testing.T) {
	_, c := serveTest(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("watch") {
			fmt.Fprint(w, "begun")
		}
		panic(http.ErrAbortHandler)
	})
	if resp, err := get(t, c, t.Context(), "/api/v1/pods"); err == nil {
		resp.Body.Close()
		t.Errorf("an aborted request has the answer %d", resp.StatusCode)
	}
	resp, err := get(t, c, t.Context(), watchPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "begun" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an aborted stream reads %q, %v", body, err)
	}
}

func TestLoopbackWatch(t *testing.T) {
	l, _ := serveTest(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		for i := range 1000 {
			fmt.Fprintf(w, `{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p%d"}}}`+"\n", i)
			if i%7 == 0 || i == 999 {
				w.(http.Flusher).Flush()
			}
		}
		<-r.Context().Done()
	})
	client, err := corev1client.NewForConfig(l.Config())
	if err != nil {
		t.Fatal(err)
	}
	w, err := client.Pods("").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i := range 1000 {
		select {
		case e := <-w.ResultChan():
			if p, ok := e.Object.(*corev1.Pod); !ok || p.Name != fmt.Sprintf("p%d", i) {
				t.Fatalf("event %d is %+v", i, e)
			}
		case <-time.After(patience):
			t.Fatalf("event %d does not come", i)
		}
	}
}

func TestLoopbackStreamEnds(t *testing.T) {
	for name, end := range map[string]func(l *Transport, resp *http.Response, cancel func()){
		"by its caller's context": func(_ *Transport, _ *http.Response, cancel func()) { cancel() },
		"by its reader":           func(_ *Transport, resp *http.Response, _ func()) { resp.Body.Close() },
		"with the server":         func(l *Transport, _ *http.Response, _ func()) { l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			handled := make(chan error, 1)
			l, c := serveTest(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				var err error
				for err == nil && r.Context().Err() == nil { // nobody reads: the buffer fills, and Write waits
					_, err = w.Write(make([]byte, 10_000))
				}
				handled <- err
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := get(t, c, ctx, watchPath)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			end(l, resp, cancel)
			select {
			case <-handled:
			case <-time.After(patience):
				t.Fatal("the handler goes on")
			}
			for err == nil {
				_, err = resp.Body.Read(make([]byte, 1<<20))
			}
			// A handler that ends because the server does has said all.
			if errors.Is(err, io.EOF) && name != "with the server" {
				t.Errorf("the body ends as if it were whole")
			}
		})
	}
}

func TestLoopbackBeforeAndAfterTheServer(t *testing.T) {
	l := New()
	c := &http.Client{Transport: l}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if resp, err := get(t, c, ctx, "/api"); !errors.Is(err, context.DeadlineExceeded) {
		if err == nil {
			resp.Body.Close()
		}
		t.Errorf("before: %v", err)
	}
	l.Close()
	if resp, err := get(t, c, t.Context(), "/api"); !errors.Is(err, errNotServing) {
		if err == nil {
			resp.Body.Close()
		}
		t.Errorf("after: %v", err)
	}
}

func TestLoopbackIsNotSureBeforeAllIsInstalled(t *testing.T) {
	l, installed, sure := New(), make(chan struct{}), false
	t.Cleanup(l.Close)
	l.Serve(Server{
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			sure = genericapifilters.NoMuxAndDiscoveryIncompleteKey(r.Context())
		}),
		Resolver: &request.RequestInfoFactory{},
		Streams:  genericfilters.BasicLongRunningRequestCheck(sets.NewString(), sets.NewString()),
		Timeout:  patience, InFlight: &waitgroup.SafeWaitGroup{}, Complete: map[string]<-chan struct{}{"all": installed},
	})
	for _, want := range []bool{false, true, true} {
		resp, err := get(t, &http.Client{Transport: l}, t.Context(), "/x")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if sure != want {
			t.Errorf("sure %v, want %v", sure, want)
		}
		if !want {
			close(installed)
		}
	}
}
