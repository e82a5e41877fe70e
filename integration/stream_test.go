package integration

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"coracle/internal/testport"
)

// streamer opens an exec in a pod, over WebSocket or SPDY.
func (s *space) streamer(t testing.TB, protocol, pod string, opts *corev1.PodExecOptions) remotecommand.Executor {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	at := s.client(t).CoreV1().RESTClient().Post().Resource("pods").Namespace(s.name).Name(pod).SubResource("exec").
		VersionedParams(opts, scheme.ParameterCodec).URL()
	e, err := executor(config, protocol, at)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func executor(config *restclient.Config, protocol string, at *url.URL) (remotecommand.Executor, error) {
	if protocol == "SPDY" {
		return remotecommand.NewSPDYExecutor(config, http.MethodPost, at)
	}
	return remotecommand.NewWebSocketExecutor(config, http.MethodGet, at.String())
}

// stuck is a reader of output that reads nothing until it is let go.
type stuck struct{ free <-chan struct{} }

func (s stuck) Write(p []byte) (int, error) {
	<-s.free
	return len(p), nil
}

// TestManyStreams runs 50 commands at once, each with input and output of its own, beside several whose users do not read.
// Those must not hold up the others, nor lose a byte of their own output.
func TestManyStreams(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("box", sleeper))
	s.waitReady("box")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	free := make(chan struct{})
	var slow, quick sync.WaitGroup
	var mu sync.Mutex
	kept := map[string]int{}
	for i, protocol := range []string{"SPDY", "WebSocket", "SPDY", "WebSocket"} {
		e := s.streamer(t, protocol, "box", &corev1.PodExecOptions{Command: []string{"sh", "-c", "yes | head -c 3000000"}, Stdout: true})
		name := fmt.Sprintf("%s %d", protocol, i)
		slow.Go(func() {
			counted := &counter{to: stuck{free}}
			if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: counted}); err != nil {
				t.Errorf("%s that did not read: %v", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			kept[name] = counted.n
		})
	}
	text := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB each way
	began := time.Now()
	for i := range 50 {
		protocol := []string{"WebSocket", "SPDY"}[i%2]
		e := s.streamer(t, protocol, "box", &corev1.PodExecOptions{Command: []string{"sh", "-c", "cat; echo end >&2; exit 3"}, Stdin: true, Stdout: true, Stderr: true})
		quick.Go(func() {
			var out, errs bytes.Buffer
			err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader(text), Stdout: &out, Stderr: &errs})
			var code exec.CodeExitError
			if !errors.As(err, &code) || code.Code != 3 || out.String() != text || errs.String() != "end\n" {
				t.Errorf("%s stream %d: %d bytes of %d came back, stderr %q, %v", protocol, i, out.Len(), len(text), errs.String(), err)
			}
		})
	}
	quick.Wait()
	t.Logf("50 commands at once beside 4 stalled ones: %s", time.Since(began).Round(10*time.Millisecond))
	close(free)
	slow.Wait()
	for name, n := range kept {
		if n != 3000000 {
			t.Errorf("%s: %d bytes after its reader woke, want 3000000", name, n)
		}
	}
	// Nothing is left of all that on the node.
	s.eventually(30*time.Second, func() error {
		out, err := s.kubectl("exec", "box", "--", "ps")
		if err != nil || strings.Contains(out, "yes") || strings.Contains(out, "cat") {
			return fmt.Errorf("left in the container: %s %w", out, err)
		}
		return nil
	})
}

type counter struct {
	to io.Writer
	n  int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += n
	return n, err
}

// TestExecProtocols speaks each version of the WebSocket protocol as bare frames, as clients in other languages do.
func TestExecProtocols(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("box", "echo first line; "+sleeper))
	s.waitReady("box")
	base := s.apiProxy(t)
	path := base + "/api/v1/namespaces/" + s.name + "/pods/box/"
	const script = "exec?command=sh&command=-c&command=" + "cat%3B+echo+bad+%3E%262%3B+exit+5" // cat; echo bad >&2; exit 5
	for _, test := range []struct {
		protocol string
		encode   bool // base64
		status   string
	}{
		{"channel.k8s.io", false, "command terminated with"},
		{"base64.channel.k8s.io", true, "command terminated with"},
		{"v4.channel.k8s.io", false, `"reason":"NonZeroExitCode"`},
		{"v4.base64.channel.k8s.io", true, `"reason":"NonZeroExitCode"`},
		{"v5.channel.k8s.io", false, `"reason":"NonZeroExitCode"`},
	} {
		// Only v5 can end the input; the others get none.
		withInput := test.protocol == "v5.channel.k8s.io"
		conn := s.dialSocket(t, path+script+"&stdout=true&stderr=true"+map[bool]string{true: "&stdin=true"}[withInput], test.protocol)
		if withInput {
			for _, frame := range [][]byte{append([]byte{0}, "typed\n"...), {255, 0}} {
				if err := websocket.Message.Send(conn, frame); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := frames(conn, test.encode)
		if got[2] != "bad\n" || !strings.Contains(got[3], test.status) || withInput && got[1] != "typed\n" {
			t.Errorf("%s: got %q", test.protocol, got)
		}
	}
	// A log can be read that way, too.
	conn := s.dialSocket(t, path+"log", "binary.k8s.io")
	var log []byte
	for {
		var piece []byte
		if err := websocket.Message.Receive(conn, &piece); err != nil {
			break
		}
		log = append(log, piece...)
	}
	if string(log) != "first line\n" {
		t.Errorf("log over WebSocket: %q", log)
	}
}

// apiProxy runs kubectl proxy, which authenticates plain connections.
func (s *space) apiProxy(t *testing.T) string {
	t.Helper()
	ports, err := testport.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newProcess(t.TempDir(), "proxy", binary("kubectl"), "--kubeconfig", s.kubeconfig, "proxy", fmt.Sprintf("--port=%d", ports[0]), "--reject-paths=^/none")
	if err := proxy.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.stop() })
	base := fmt.Sprintf("127.0.0.1:%d", ports[0])
	s.eventually(20*time.Second, func() error {
		answer, err := http.Get("http://" + base + "/version")
		if err != nil {
			return err
		}
		return answer.Body.Close()
	})
	return base
}

func (s *space) dialSocket(t *testing.T, at, protocol string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws://"+at, "http://127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	config.Protocol = []string{protocol}
	conn, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", protocol, err)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// frames reads until the end and joins what came on each channel.
func frames(conn *websocket.Conn, encoded bool) [4]string {
	var out [4]string
	for {
		var frame []byte
		if err := websocket.Message.Receive(conn, &frame); err != nil {
			return out
		}
		if len(frame) == 0 {
			continue
		}
		channel, data := frame[0], frame[1:]
		if encoded {
			channel -= '0'
			plain, err := base64.StdEncoding.DecodeString(string(data))
			if err != nil {
				return out
			}
			data = plain
		}
		if int(channel) < len(out) {
			out[channel] += string(data)
		}
	}
}

// TestCopyLargeTree copies thousands of files and a large one into a pod and back.
func TestCopyLargeTree(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("box", sleeper, "volumeMounts: [{name: data, mountPath: /data}]") + "\n  volumes: [{name: data, emptyDir: {}}]\n")
	s.waitReady("box")
	const small, large = 2000, 64 << 20
	dir := t.TempDir()
	for i := range small {
		name := filepath.Join(dir, "tree", fmt.Sprint(i%20), fmt.Sprintf("file-%d", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, fmt.Appendf(nil, "this is file %d\n", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	big := bytes.Repeat([]byte("coracle "), large/8)
	for i := range big {
		big[i] ^= byte(i >> 13)
	}
	if err := os.WriteFile(filepath.Join(dir, "tree", "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.do("cp", filepath.Join(dir, "tree"), "box:/data/tree")
	there := time.Since(began)
	began = time.Now()
	s.do("cp", "box:/data/tree", filepath.Join(dir, "back"))
	back := time.Since(began)
	t.Logf("%d files and %d MB: in %s there, in %s back", small, large>>20, there.Round(10*time.Millisecond), back.Round(10*time.Millisecond))
	for i := range small {
		got, err := os.ReadFile(filepath.Join(dir, "back", fmt.Sprint(i%20), fmt.Sprintf("file-%d", i)))
		if want := fmt.Sprintf("this is file %d\n", i); err != nil || string(got) != want {
			t.Fatalf("file %d came back as %q, %v", i, got, err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "back", "big")); err != nil || !bytes.Equal(got, big) {
		t.Errorf("the large file came back with %d bytes of %d, %v", len(got), len(big), err)
	}
}

// TestPortForwardMany opens many connections over one forward, some of which stay idle, and learns what is refused.
func TestPortForwardMany(t *testing.T) {
	s := newSpace(t)
	s.do("run", "web", "--image="+s.demo)
	s.waitReady("web")
	ports, err := testport.Free(2)
	if err != nil {
		t.Fatal(err)
	}
	forward := newProcess(t.TempDir(), "port-forward", binary("kubectl"), "--kubeconfig", s.kubeconfig, "-n", s.name,
		"port-forward", "pod/web", fmt.Sprintf("%d:8080", ports[0]), fmt.Sprintf("%d:7", ports[1]))
	if err := forward.start(); err != nil {
		t.Fatal(err)
	}
	defer forward.stop()
	client := &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 100}, Timeout: 30 * time.Second}
	get := func(port int) error {
		answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || string(body) != "hello from web\n" {
			return fmt.Errorf("got %q, %w", body, err)
		}
		return nil
	}
	s.eventually(20*time.Second, func() error { return get(ports[0]) })
	var all sync.WaitGroup
	began := time.Now()
	for range 40 {
		all.Go(func() {
			for range 5 {
				if err := get(ports[0]); err != nil {
					t.Errorf("one of many: %v", err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("200 requests over 40 connections of one forward: %s", time.Since(began).Round(10*time.Millisecond))
	if err := get(ports[1]); err == nil {
		t.Error("a port that nobody listens on answers")
	}
	s.eventually(20*time.Second, func() error {
		if said := forward.tail(50); !strings.Contains(said, "connection refused") {
			return fmt.Errorf("kubectl said: %s", said)
		}
		return nil
	})
	// A Service of UDP cannot be forwarded.
	s.apply(`{apiVersion: v1, kind: Service, metadata: {name: udp}, spec: {selector: {run: web}, ports: [{protocol: UDP, port: 53, targetPort: 53}]}}`)
	s.wantContains(s.refused("port-forward", "service/udp", "0:53"), "UDP")
}
