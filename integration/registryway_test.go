package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"coracle/internal/testimage"
	"coracle/internal/testport"
)

// startTLSRegistry serves over HTTPS at an address of this machine that is not loopback, which nobody takes for plain HTTP.
func startTLSRegistry(t *testing.T, ca *authority, ip string) (host string) {
	t.Helper()
	dir := t.TempDir()
	ports, err := testport.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	host = net.JoinHostPort(ip, fmt.Sprint(ports[0]))
	cert, key := ca.server(ip)
	config := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %q, tls: {certificate: %s, key: %s}}\n", dir, host, cert, key)
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProcess(dir, "tls-registry", "docker-registry", "serve", file)
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	if err := eventually(20*time.Second, func() error {
		conn, err := tls.Dial("tcp", host, &tls.Config{RootCAs: ca.pool()})
		if err != nil {
			return fmt.Errorf("%w: %s", err, p.tail(5))
		}
		return conn.Close()
	}); err != nil {
		t.Fatal(err)
	}
	return host
}

// bridgeIP is the cluster's own address on the bridge of its node, which is there once a pod has run.
func (c *cluster) bridgeIP() (string, error) {
	link, err := net.InterfaceByName("cor" + c.id)
	if err != nil {
		return "", err
	}
	addresses, err := link.Addrs()
	if err != nil {
		return "", err
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("the bridge has no address")
}

// TestRegistryWithItsOwnCA pulls over HTTPS from a registry whose CA only containerd's certs.d names.
func TestRegistryWithItsOwnCA(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("first", sleeper)) // the bridge comes with the first pod
	s.waitReady("first")
	ip, err := s.bridgeIP()
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t, "registry-ca")
	host := startTLSRegistry(t, ca, ip)
	ref := host + "/team/app:1"
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool()}}
	defer transport.CloseIdleConnections()
	if err := testimage.Push(context.Background(), ref, testimage.Busybox("/bin/busybox", []string{"sh", "sleep"}), remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: main, image: '%s', command: [sleep, '600']}]\n"
	s.apply(fmt.Sprintf(manifest, "mistrustful", ref))
	s.waitPod("mistrustful", 60*time.Second, waitingReason("ImagePullBackOff"))
	s.says([]string{"describe", "pod", "mistrustful"}, "Failed to pull image", "x509: certificate signed by unknown authority")

	dir := filepath.Join(s.dir, "certs.d", host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	hosts := fmt.Sprintf("server = \"https://%s\"\n[host.\"https://%[1]s\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = %q\n", host, ca.file)
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	// The file is read at each pull: neither the agent nor the pod that waits needs a restart.
	s.apply(fmt.Sprintf(manifest, "trustful", ref))
	s.waitReady("trustful", "mistrustful")
}

// cuttingRegistry stands before a registry and cuts connections in the middle of blobs.
type cuttingRegistry struct {
	host  string
	every int // bytes after which an answer is cut
	cuts  int // how many answers are to be cut

	mu    sync.Mutex
	cut   int
	sent  map[string]int // by blob: how far the pulls have got
	again int            // bytes that were asked for again
}

func startCuttingRegistry(t *testing.T, behind string, every, cuts int) *cuttingRegistry {
	r := &cuttingRegistry{every: every, cuts: cuts, sent: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: behind})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
			proxy.ServeHTTP(w, req)
			return
		}
		from := 0
		if asked := req.Header.Get("Range"); asked != "" {
			if _, err := fmt.Sscanf(asked, "bytes=%d-", &from); err != nil {
				t.Errorf("Range %q: %v", asked, err)
			}
		}
		blob := &cutBlob{ResponseWriter: w, r: r, name: req.URL.Path, at: from, left: -1}
		r.mu.Lock()
		r.again += max(0, r.sent[blob.name]-from)
		if r.cut < r.cuts {
			blob.left = r.every
		}
		r.mu.Unlock()
		proxy.ServeHTTP(blob, req)
		if blob.left == 0 {
			panic(http.ErrAbortHandler) // breaks the connection off
		}
	}))
	t.Cleanup(front.Close)
	r.host = front.Listener.Addr().String()
	return r
}

// cutBlob passes on as many bytes as are left; -1 means all.
type cutBlob struct {
	http.ResponseWriter
	r    *cuttingRegistry
	name string
	at   int
	left int
}

func (b *cutBlob) Write(p []byte) (int, error) {
	end := len(p)
	if b.left >= 0 {
		end = min(end, b.left)
	}
	n, err := b.ResponseWriter.Write(p[:end])
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	b.at += n
	b.r.sent[b.name] = max(b.r.sent[b.name], b.at)
	if b.left < 0 {
		return n, err
	}
	if b.left -= n; b.left == 0 && n < len(p) {
		b.r.cut++
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// TestRegistryThatCutsConnections pulls a layer whose transfer is cut again and again: the pull goes on where it was cut.
func TestRegistryThatCutsConnections(t *testing.T) {
	const size, every, cuts = 16 << 20, 3 << 20, 4
	s := newSpace(t)
	spec := testimage.Busybox("/bin/busybox", []string{"sh", "sleep", "wc"})
	spec.Files["/big"] = testimage.File{Content: "x", Size: size}
	if err := testimage.Push(context.Background(), s.registry+"/cut:1", spec); err != nil {
		t.Fatal(err)
	}
	r := startCuttingRegistry(t, s.registry, every, cuts)
	s.apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: patient}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: main, image: '%s/cut:1', command: [sleep, '600']}]\n", r.host))
	s.waitReady("patient")
	if got := strings.Fields(s.do("exec", "patient", "--", "wc", "-c", "/big"))[0]; got != fmt.Sprint(size) {
		t.Errorf("the pulled file has %s bytes, want %d", got, size)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t.Logf("%d cuts in a layer of %d bytes, %d bytes asked for again", r.cut, size, r.again)
	if r.cut != cuts {
		t.Errorf("the transfer was cut %d times, want %d", r.cut, cuts)
	}
	// What was under way in buffers when the connection broke is lost; what had arrived is not.
	if r.again > size/4 {
		t.Errorf("%d bytes were asked for again, of %d: the pull began anew", r.again, size)
	}
}
