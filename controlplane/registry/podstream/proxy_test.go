package podstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// backend is a server in a pod: it says what it was asked, redirects below /to/, and echoes over WebSocket at /ws.
func (a *api) backend(t *testing.T) {
	t.Helper()
	m := http.NewServeMux()
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read request: %v", err)
		}
		w.Header().Set("X-Asked", r.Method+" "+r.URL.String())
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, body)
	})
	m.HandleFunc("/to/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/landing?x=1", http.StatusFound)
	})
	m.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<html><body><a href="/other">x</a></body></html>`)
	})
	m.Handle("/ws", websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }))
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	for _, port := range []int32{0, 8080} {
		a.agent.ports[port] = server.Listener.Addr().String()
	}
}

func TestProxyMethodsAndRedirects(t *testing.T) {
	a := newAPI(t)
	a.backend(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct {
		method, path, body string
		code               int
		text, location     string
	}{
		// A client that asks for the root without its slash is sent to it, with the query.
		{method: "GET", path: "/pods/proxy/web?method=GET", code: 301, location: "/pods/proxy/web/?method=GET"},
		{method: "HEAD", path: "/pods/proxy/web", code: 301, location: "/pods/proxy/web/"},
		{method: "GET", path: "/nodes/proxy/n1", code: 301, location: "/nodes/proxy/n1/"},
		{method: "POST", path: "/pods/proxy/web?method=POST", body: "b", code: 200, text: "POST /?method=POST b"},
		{method: "PUT", path: "/pods/proxy/web/a", body: "b", code: 200, text: "PUT /a b"},
		{method: "PATCH", path: "/pods/proxy/web/a?q=%2F+x", body: "b", code: 200, text: "PATCH /a?q=%2F+x b"},
		{method: "DELETE", path: "/pods/proxy/web/a/", code: 200, text: "DELETE /a/ "},
		{method: "OPTIONS", path: "/pods/proxy/web/a", code: 200, text: "OPTIONS /a "},
		{method: "HEAD", path: "/pods/proxy/web/a", code: 200},
		// What the pod says of places leads through the proxy again.
		{method: "GET", path: "/pods/proxy/web/to/x", code: 302, location: "/pods/proxy/web/landing?x=1"},
		{method: "GET", path: "/pods/proxy/web/page", code: 200, text: `href="/pods/proxy/web/other"`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, a.server.URL+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", test.method, test.path, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != test.code || !strings.Contains(string(body), test.text) || resp.Header.Get("Location") != test.location {
			t.Errorf("%s %s: %d %q to %q, %v; want %d %q to %q", test.method, test.path, resp.StatusCode, body, resp.Header.Get("Location"), err, test.code, test.text, test.location)
		}
	}
}

func TestProxyUpgrades(t *testing.T) {
	a := newAPI(t)
	a.backend(t)
	for _, path := range []string{"/pods/proxy/web/ws", "/nodes/proxy/n1/ws"} {
		config, err := websocket.NewConfig("ws"+strings.TrimPrefix(a.server.URL, "http")+path, a.server.URL)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := config.DialContext(t.Context())
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		text := strings.Repeat("a message ", 10_000)
		if err := websocket.Message.Send(conn, text); err != nil {
			t.Error(err)
		}
		// The far end copies in pieces, each a message of its own.
		got := ""
		for len(got) < len(text) {
			var piece string
			if err := websocket.Message.Receive(conn, &piece); err != nil {
				t.Errorf("%s: after %d bytes: %v", path, len(got), err)
				break
			}
			got += piece
		}
		if got != text {
			t.Errorf("%s: %d bytes came back, want %d as they were", path, len(got), len(text))
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	// Closed ports are told as such to whoever wants to upgrade, too.
	config, err := websocket.NewConfig("ws"+strings.TrimPrefix(a.server.URL, "http")+"/pods/proxy/web:7777/ws", a.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := config.DialContext(t.Context()); err == nil {
		_ = conn.Close()
		t.Error("an upgrade at a closed port succeeded")
	}
}

func TestUsageOfANode(t *testing.T) {
	a := newAPI(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats/usage" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, `{"nanoCores":5,"windowNanoseconds":7,"unknown":1,"pods":[{"namespace":"a","name":"b","containers":[{"name":"c","workingSetBytes":9}]}]}`)
	}))
	t.Cleanup(server.Close)
	a.agent.ports[0] = server.Listener.Addr().String()
	got, err := Usage(t.Context(), a.agent, "n1")
	if err != nil || got.NanoCores != 5 || got.Window != 7 || len(got.Pods) != 1 || got.Pods[0].Containers[0].WorkingSet != 9 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Usage(t.Context(), a.agent, "n2"); err == nil || !strings.Contains(err.Error(), "not connected") {
		t.Errorf("a node that is away: %v", err)
	}
}
