package image

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	v1 "k8s.io/api/core/v1"

	"coracle/internal/fault"
	"coracle/internal/testcontainerd"
	"coracle/internal/testimage"
	"coracle/internal/testport"
	"coracle/internal/testwait"
)

// registry is a real one on loopback, with a front of the test's own before it.
type registry struct {
	front *httptest.Server
	proxy *httputil.ReverseProxy
	// answer may deal with a request itself; false passes it on.
	answer atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	ranges atomic.Int64 // requests that asked for a part
	blobs  atomic.Int64 // requests for blobs
}

func (r *registry) host() string { return r.front.Listener.Addr().String() }

func (r *registry) on(f func(http.ResponseWriter, *http.Request) bool) { r.answer.Store(&f) }

func startRegistry(t *testing.T) *registry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	ports, err := testport.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	back := fmt.Sprintf("127.0.0.1:%d", ports[0])
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, back)
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	target := &url.URL{Scheme: "http", Host: back}
	testwait.Until(t, "the registry answers", func() bool {
		resp, err := http.Get(target.String() + "/v2/")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	})
	r := &registry{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(io.Discard, nil), slog.LevelError)
	r.proxy = proxy
	r.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
			r.blobs.Add(1)
			if req.Header.Get("Range") != "" {
				r.ranges.Add(1)
			}
		}
		if f := r.answer.Load(); f != nil && (*f)(w, req) {
			return
		}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(r.front.Close)
	return r
}

const bigFile = 8 << 20

// push makes an image with one small and one incompressible file.
func (r *registry) push(t *testing.T, name string) string {
	t.Helper()
	ref := r.host() + "/" + name
	spec := testimage.Spec{
		Files: map[string]testimage.File{"/etc/passwd": {Content: "root:x:0:0::/:/bin/sh\n"}, "/big": {Content: name, Size: bigFile}},
		Cmd:   []string{"/hello"}, Entrypoint: []string{"/entry"}, Env: []string{"A=b"}, User: "5:6", WorkingDir: "/w",
	}
	if err := testimage.Push(t.Context(), ref, spec); err != nil {
		t.Fatal(err)
	}
	return ref
}

func newImages(t *testing.T, d *testcontainerd.Daemon, change func(*Config)) *Images {
	t.Helper()
	cfg := Config{Address: d.Address, Namespace: "coracle", HostsDir: filepath.Join(d.Dir, "certs.d"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestPull(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	m := newImages(t, d, nil)
	ref := r.push(t, "team/app:1")
	if _, err := m.Get(t.Context(), ref); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("Get before the pull: %v", err)
	}
	_, err := m.Ensure(t.Context(), Request{Ref: ref, Policy: v1.PullNever})
	if ReasonOf(err) != ReasonNeverPull {
		t.Errorf("policy Never: %v", err)
	}
	asked := 0
	img, err := m.Ensure(t.Context(), Request{Ref: ref, OnPull: func() { asked++ }})
	if err != nil {
		t.Fatal(err)
	}
	if img.User != "5:6" || img.WorkingDir != "/w" || img.Entrypoint[0] != "/entry" || img.Cmd[0] != "/hello" || img.Env[0] != "A=b" ||
		!strings.HasPrefix(img.RepoDigest, r.host()+"/team/app@sha256:") || img.Size < bigFile || !strings.HasPrefix(img.ID, "sha256:") {
		t.Errorf("image %+v", img)
	}
	again, err := m.Ensure(t.Context(), Request{Ref: ref, OnPull: func() { asked++ }})
	if err != nil || asked != 1 || again.ChainID != img.ChainID {
		t.Errorf("asked %d times, %v", asked, err)
	}
	if _, err := m.Ensure(t.Context(), Request{Ref: img.RepoDigest}); err != nil {
		t.Errorf("by digest: %v", err)
	}
	list, err := m.List(t.Context())
	if err != nil || len(list) != 1 || len(list[0].Names) != 2 || list[0].ID != img.ID {
		t.Errorf("List = %+v, %v", list, err)
	}
	if ok, err := m.unpacked(m.context(t.Context()), img); !ok || err != nil {
		t.Errorf("unpacked: %v %v", ok, err)
	}
	left, err := m.client.LeasesService().List(m.context(t.Context()))
	if err != nil || len(left) > 0 {
		t.Errorf("leases are left: %v %v", left, err)
	}
	freed, err := m.collect(t.Context(), uses(ref), full, Thresholds{}.withDefaults(), time.Now().Add(time.Hour))
	if freed != 0 || !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("an image in use was removed: %d %v", freed, err)
	}
	freed, err = m.collect(t.Context(), uses(), full, Thresholds{}.withDefaults(), time.Now().Add(time.Hour*2))
	if freed != img.Size || err != nil {
		t.Errorf("collected %d, %v", freed, err)
	}
	if _, err := m.Get(t.Context(), ref); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("Get after removal: %v", err)
	}
}

func TestPullsAreShared(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	m := newImages(t, d, nil)
	ref := r.push(t, "team/app:1")
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release) // before the registry, which waits for its requests, is closed
	r.on(func(w http.ResponseWriter, req *http.Request) bool { <-hold; return false })
	first, giveUp := context.WithCancel(t.Context())
	var pulling sync.WaitGroup
	var failed atomic.Int64
	for i := range 4 {
		ctx := t.Context()
		if i == 0 {
			ctx = first
		}
		pulling.Go(func() {
			if _, err := m.Ensure(ctx, Request{Ref: ref}); err != nil {
				failed.Add(1)
			}
		})
		if i == 0 {
			testwait.Until(t, "the pull begins", func() bool { return len(m.Pulls()) == 1 })
		}
	}
	giveUp() // one of them must not take the others along
	release()
	testwait.End(t, "the pulls", pulling.Wait)
	if failed.Load() > 1 {
		t.Errorf("%d of 4 failed", failed.Load())
	}
	if n := r.blobs.Load(); n > 4 { // configuration and layer, and again for the one that gave up
		t.Errorf("%d blobs were asked for", n)
	}
	if len(m.Pulls()) != 0 {
		t.Error("a pull is listed that has ended")
	}
}

// The connection is cut in the middle of a layer, each time it is asked for, for good: the pull
// goes on where it was cut, by itself as long as bytes arrive, and in the next call after that.
func TestPullResumesAfterACut(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	m := newImages(t, d, nil)
	ref := r.push(t, "team/cut:1")
	var sent atomic.Int64
	var cuts atomic.Int64
	cut := func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		cutting := &cuttingWriter{ResponseWriter: w, left: 1 << 20, sent: &sent}
		r.passOn(cutting, req)
		if cutting.left <= 0 {
			cuts.Add(1)
			panic(http.ErrAbortHandler)
		}
		return true
	}
	r.on(cut)
	_, err := m.Ensure(t.Context(), Request{Ref: ref})
	for try := 0; err != nil && try < 10; try++ {
		if ReasonOf(err) != ReasonPull || !errors.Is(err, fault.ErrUnavailable) {
			t.Fatalf("error of a cut pull: %v", err)
		}
		_, err = m.Ensure(t.Context(), Request{Ref: ref})
	}
	if err != nil {
		t.Fatal(err)
	}
	if cuts.Load() < 3 || r.ranges.Load() < 3 {
		t.Errorf("%d cuts, %d requests for a part", cuts.Load(), r.ranges.Load())
	}
	if n := sent.Load(); n > bigFile*3/2 {
		t.Errorf("%d bytes were sent for a layer of %d", n, bigFile)
	}
}

// A new process goes on with what the killed one had downloaded.
func TestPullResumesInANewProcess(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	ref := r.push(t, "team/killed:1")
	var sent atomic.Int64
	stall := make(chan struct{})
	defer close(stall)
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		from := 0
		_, _ = fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from) // without one from the start
		cutting := &cuttingWriter{ResponseWriter: w, left: max(3<<20-from, 0), sent: &sent}
		r.passOn(cutting, req)
		if cutting.left <= 0 {
			http.NewResponseController(w).Flush()
			<-stall
		}
		return true
	})
	m := newImages(t, d, func(c *Config) { c.StallTimeout = 500 * time.Millisecond })
	// On a busy machine the registry is taken to stall before it does: then the next pull brings more.
	testwait.Nil(t, "a megabyte of the download is kept", func() error {
		_, err := m.Ensure(t.Context(), Request{Ref: ref})
		if err == nil || !strings.Contains(err.Error(), "sent nothing for 500ms") || !errors.Is(err, fault.ErrUnavailable) {
			t.Fatalf("pull from a registry that stalls: %v", err)
		}
		ctx := leases.WithLease(m.context(t.Context()), leaseID(ref))
		if got, err := m.client.ContentStore().ListStatuses(ctx); err != nil || len(got) != 1 || got[0].Offset < 1<<20 {
			return fmt.Errorf("%+v, %w", got, err)
		}
		return nil
	})
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = newImages(t, d, nil)
	r.on(func(http.ResponseWriter, *http.Request) bool { return false })
	r.ranges.Store(0)
	if _, err := m.Ensure(t.Context(), Request{Ref: ref}); err != nil {
		t.Fatal(err)
	}
	if r.ranges.Load() == 0 {
		t.Error("the new process began from the start")
	}
}

// cuttingWriter lets some bytes of a body through and drops the rest.
type cuttingWriter struct {
	http.ResponseWriter
	left int
	sent *atomic.Int64
}

func (w *cuttingWriter) Write(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, io.ErrClosedPipe
	}
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	w.left -= n
	w.sent.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrClosedPipe
	}
	return n, err
}

func (r *registry) passOn(w http.ResponseWriter, req *http.Request) {
	defer func() { _ = recover() }() // the proxy aborts when the writer refuses; the caller decides what follows
	r.proxy.ServeHTTP(w, req)
}

// A registry's host directory sends pulls to a mirror; the registry's credentials stay at home.
func TestMirror(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	m := newImages(t, d, nil)
	r.push(t, "team/app:1")
	dir := filepath.Join(d.Dir, "certs.d", "registry.example")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	hosts := fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", r.host())
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 100)
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		user, _, ok := req.BasicAuth()
		seen <- user
		if ok && user == "mirror" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	home := Credential{Registry: "registry.example", Username: "home", Password: "p"}
	mirror := Credential{Registry: r.host(), Username: "mirror", Password: "p"}
	if _, err := m.Ensure(t.Context(), Request{Ref: "registry.example/team/app:1", Credentials: []Credential{home}}); err == nil {
		t.Error("pulled from a mirror that wants other credentials")
	}
	if _, err := m.Ensure(t.Context(), Request{Ref: "registry.example/team/app:1", Credentials: []Credential{home, mirror}}); err != nil {
		t.Error(err)
	}
	for len(seen) > 0 {
		if user := <-seen; user == "home" {
			t.Error("the mirror was shown the registry's credentials")
		}
	}
}

func TestRefusals(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	m := newImages(t, d, nil)
	ref := r.push(t, "team/app:1")
	_, err := m.Ensure(t.Context(), Request{Ref: r.host() + "/team/nosuch:1"})
	if !errors.Is(err, fault.ErrNotFound) || ReasonOf(err) != ReasonPull || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("image that does not exist: %v", err)
	}
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		user, password, _ := req.BasicAuth()
		if user == "u" && password == "p" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	_, err = m.Ensure(t.Context(), Request{Ref: ref})
	if err == nil || !strings.Contains(err.Error(), "401") && !strings.Contains(err.Error(), "authorization failed") {
		t.Errorf("without credentials: %v", err)
	}
	wrong := Credential{Registry: r.host() + "/team", Username: "u", Password: "wrong"}
	other := Credential{Registry: "other.example", Username: "x", Password: "y"}
	if _, err = m.Ensure(t.Context(), Request{Ref: ref, Credentials: []Credential{wrong, other}}); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with wrong credentials: %v", err)
	}
	right := Credential{Registry: r.host(), Auth: base64.StdEncoding.EncodeToString([]byte("u:p"))}
	if _, err = m.Ensure(t.Context(), Request{Ref: ref, Credentials: []Credential{wrong, right}}); err != nil {
		t.Errorf("with the right credentials among others: %v", err)
	}
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down, please"}]}`)
		return true
	})
	_, err = m.Ensure(t.Context(), Request{Ref: ref, Policy: v1.PullAlways})
	if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "429") {
		t.Errorf("a registry that is too busy: %v", err)
	}
	stall := make(chan struct{})
	defer close(stall)
	r.on(func(http.ResponseWriter, *http.Request) bool { <-stall; return true })
	impatient := newImages(t, d, func(c *Config) { c.StallTimeout = 300 * time.Millisecond })
	_, err = impatient.Ensure(t.Context(), Request{Ref: ref, Policy: v1.PullAlways})
	if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "sent nothing for 300ms") {
		t.Errorf("a registry that does not answer: %v", err)
	}
	_, err = m.Ensure(t.Context(), Request{Ref: "127.0.0.1:1/nobody:1"})
	if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("no registry there: %v", err)
	}
	if _, err = m.Ensure(t.Context(), Request{Ref: "Not A Name"}); ReasonOf(err) != ReasonInvalidName {
		t.Errorf("no name: %v", err)
	}
	d.Kill(t)
	if _, err = m.Ensure(t.Context(), Request{Ref: ref, Policy: v1.PullIfNotPresent}); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("without containerd: %v", err)
	}
}

func full(context.Context) (Disk, error) { return Disk{Capacity: 100, Available: 1}, nil }

func uses(names ...string) Users {
	return func(context.Context) (map[string]bool, error) {
		out := map[string]bool{}
		for _, n := range names {
			out[n] = true
		}
		return out, nil
	}
}

// On a real disk: nothing is asked of containerd where there is room, a pinned image stays, and the disk is found by itself.
func TestCollectOnARealDisk(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	m := newImages(t, d, func(c *Config) { c.GC = Thresholds{High: 100} })
	for _, name := range []string{"team/keep:1", "team/pinned:1", "team/used:1", "team/gone:1"} {
		if _, err := m.Ensure(t.Context(), Request{Ref: r.push(t, name)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx := m.context(t.Context())
	pinned, err := m.client.ImageService().Get(ctx, r.host()+"/team/pinned:1")
	if err != nil {
		t.Fatal(err)
	}
	pinned.Labels = map[string]string{pinnedLabel: "pinned"}
	if _, err := m.client.ImageService().Update(ctx, pinned, "labels"); err != nil {
		t.Fatal(err)
	}
	never := func(context.Context) (map[string]bool, error) {
		return nil, errors.New("a disk with room asks nobody")
	}
	if freed, err := m.Collect(t.Context(), never, time.Now()); freed != 0 || err != nil {
		t.Errorf("with room: %d, %v", freed, err)
	}
	if path := m.diskPath(ctx); !strings.HasPrefix(path, d.Dir) {
		t.Errorf("the disk of images is %s, and this containerd lives in %s", path, d.Dir)
	}
	later := time.Now().Add(time.Hour)
	m.Note([]string{r.host() + "/team/keep:1"}, later.Add(-time.Minute)) // younger than two minutes
	if _, err := m.RemoveUnused(t.Context(), uses(r.host()+"/team/used:1"), later); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]bool{"keep": true, "pinned": true, "used": true, "gone": false} {
		_, err := m.Get(t.Context(), r.host()+"/team/"+name+":1")
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A registry that wants a login gets the credential provider's, after the pod's own have been refused; where neither helps the
// provider's failure is told with the registry's words.
func TestProviderLetsIn(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	ref := r.push(t, "team/private:1")
	answer := `cat >/dev/null; echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","auth":{"` + r.host() + `":{"username":"node","password":"good"}}}'`
	providers := newProviders(t, "[ -e broken ] && { echo no metadata service >&2; exit 1; }\n"+answer)
	providers.list[0].MatchImages = []string{r.host() + "/team"}
	r.on(func(w http.ResponseWriter, req *http.Request) bool {
		if user, password, ok := req.BasicAuth(); ok && user == "node" && password == "good" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	m := newImages(t, d, func(c *Config) { c.Providers = providers })
	broken := filepath.Join(filepath.Dir(providers.list[0].program), "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := m.Ensure(t.Context(), Request{Ref: ref})
	if err == nil || ReasonOf(err) != ReasonPull || !strings.Contains(err.Error(), "authorization failed") || !strings.Contains(err.Error(), "no metadata service") {
		t.Errorf("with a broken provider: %v", err)
	}
	// The node's own file stands in for the provider, once it is one.
	for text, want := range map[string]bool{"hunter2": false, `{"auths":{"` + r.host() + `/team":{"username":"node","password":"good"}}}`: true} {
		file := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		own := newImages(t, d, func(c *Config) { c.Providers, c.LoginFile = providers, file })
		_, err := own.Ensure(t.Context(), Request{Ref: ref, Policy: v1.PullAlways})
		if (err == nil) != want || err != nil && (!strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("with the file %s: %v", text, err)
		}
		if err := own.Remove(t.Context(), ref); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Ensure(t.Context(), Request{Ref: ref, Credentials: []Credential{{Registry: r.host(), Username: "pod", Password: "bad"}}}); err != nil {
		t.Errorf("with a provider: %v", err)
	}
}

// No more pulls than configured are under way at a time, and all are counted from the moment they are asked for.
func TestParallelPullsAreLimited(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	const limit, wanted = 2, 5
	m := newImages(t, d, func(c *Config) { c.MaxParallel = limit })
	var refs []string
	for i := range wanted {
		refs = append(refs, r.push(t, fmt.Sprintf("team/app%d:1", i)))
	}
	var mu sync.Mutex
	var begun, passed []string // repositories whose blobs were asked for, and those that were let through
	var tooMany []string
	gates := map[string]chan struct{}{}
	r.on(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/blobs/") {
			return false
		}
		repository, _, _ := strings.Cut(req.URL.Path, "/blobs/")
		mu.Lock()
		if gates[repository] == nil {
			gates[repository] = make(chan struct{})
			begun = append(begun, repository)
			if len(begun)-len(passed) > limit {
				tooMany = append(tooMany, repository)
			}
		}
		gate := gates[repository]
		mu.Unlock()
		<-gate
		return false
	})
	var wg sync.WaitGroup
	errs := make([]error, wanted)
	for i, ref := range refs {
		wg.Go(func() { _, errs[i] = m.Ensure(t.Context(), Request{Ref: ref}) })
	}
	testwait.Until(t, "all are known", func() bool { return len(m.Pulls()) == wanted })
	for n := range wanted {
		testwait.Until(t, "the next is under way", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(begun) > n
		})
		mu.Lock()
		passed = append(passed, begun[n])
		close(gates[begun[n]])
		mu.Unlock()
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil || len(m.Pulls()) != 0 {
		t.Errorf("%v, %d pulls left", err, len(m.Pulls()))
	}
	if len(tooMany) > 0 {
		t.Errorf("beyond %d at a time: %v", limit, tooMany)
	}
}
