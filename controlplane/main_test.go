package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api"
	"coracle/controlplane/auth/bootstrap"
	"coracle/controlplane/config"
	"coracle/controlplane/pki"
)

// command runs one command line.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, 2, "serve, token, check or version"},
		{[]string{"version"}, 0, "coracle-controlplane "},
		{[]string{"fly"}, 2, "fly"},
		{[]string{"serve", "--wings"}, 2, "serve --help"},
		{[]string{"serve", "now"}, 2, "serve --help"},
		{[]string{"serve", "--secure-port=0"}, 2, "securePort: 0"},
		{[]string{"serve", "--config", file}, 2, `unknown field "x"`},
		{[]string{"check", "--data-dir", file}, 2, "not a directory"},
		{[]string{"check", "--data-dir", dir, "--etcd-endpoints=https://e:1", "--etcd-ca-file=/no/ca"}, 2, "/no/ca"},
		{[]string{"check", "--data-dir", dir, "--secure-port=7443", "--name=n"}, 0, "securePort: 7443"},
		{[]string{"token"}, 2, "create, list or delete"},
		{[]string{"token", "create", "--print=x"}, 2, "ca-hash"},
		{[]string{"token", "create", "--ttl=-1h"}, 2, "negative"},
		{[]string{"token", "create", "--server=nowhere"}, 2, "--server"},
		{[]string{"token", "delete"}, 2, "delete --help"},
		{[]string{"token", "delete", "TOKEN"}, 2, "neither a token ID"},
		{[]string{"token", "list", "--data-dir", dir}, 1, "start the control plane once"},
	} {
		code, stdout, stderr := command(t, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%q: exit code %d, want %d; printed %q, want it to say %q", c.args, code, c.code, stdout+stderr, c.want)
		}
	}
}

var statusType = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}

// secrets is the part of the API that the token commands use.
type secrets struct {
	mu   sync.Mutex
	have map[string]*corev1.Secret
}

func (s *secrets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const path = "/api/v1/namespaces/kube-system/secrets"
	reply := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, path), "/")
	switch {
	case len(r.TLS.PeerCertificates) == 0:
		reply(http.StatusUnauthorized, metav1.Status{TypeMeta: statusType, Status: "Failure", Reason: metav1.StatusReasonUnauthorized, Code: 401, Message: "Unauthorized"})
	case r.Method == http.MethodPost && name == "":
		// The client chooses between JSON and protobuf.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		secret := &corev1.Secret{}
		if _, _, err := api.Codecs.UniversalDeserializer().Decode(body, nil, secret); err != nil {
			reply(http.StatusBadRequest, metav1.Status{TypeMeta: statusType, Status: "Failure", Code: 400, Message: err.Error()})
			return
		}
		secret.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
		s.have[secret.Name] = secret
		reply(http.StatusCreated, secret)
	case r.Method == http.MethodGet && name == "":
		list := corev1.SecretList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "SecretList"}}
		for _, secret := range s.have {
			list.Items = append(list.Items, *secret)
		}
		reply(http.StatusOK, list)
	case r.Method == http.MethodDelete && s.have[name] != nil:
		delete(s.have, name)
		reply(http.StatusOK, metav1.Status{TypeMeta: statusType, Status: "Success"})
	default:
		reply(http.StatusNotFound, metav1.Status{TypeMeta: statusType, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: 404, Message: r.URL.Path + " not found"})
	}
}

// cluster lays out a data directory as serve does and answers at the address in its kubeconfig.
func cluster(t *testing.T) (dir string, server *httptest.Server, store *secrets) {
	t.Helper()
	dir = t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	material, err := pki.Ensure(filepath.Join(dir, "pki"), pki.Options{
		ServerURL: "https://" + listener.Addr().String(), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	store = &secrets{have: map[string]*corev1.Secret{}}
	server = httptest.NewUnstartedServer(store)
	server.Listener.Close()
	server.Listener = listener
	server.TLS = tlsConfig(material)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are part of the tests
	server.StartTLS()
	t.Cleanup(server.Close)
	c := config.Default()
	c.DataDir, c.AdvertiseAddress, c.GatewayPort, c.Name = dir, "192.0.2.1", 7444, "n"
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	if err := config.SaveServed(c); err != nil {
		t.Fatal(err)
	}
	return dir, server, store
}

func TestTokenLife(t *testing.T) {
	dir, _, store := cluster(t)
	code, stdout, stderr := command(t, "token", "create", "--data-dir", dir, "--ttl=1h", "--description=for the boat")
	form := regexp.MustCompile(`^coracle-agent join --server 192\.0\.2\.1:7444 --token ([a-z0-9]{6})\.[a-z0-9]{16} --ca-hash sha256:[0-9a-f]{64}\n$`)
	match := form.FindStringSubmatch(stdout)
	if code != 0 || match == nil {
		t.Fatalf("exit code %d, printed %q %q", code, stdout, stderr)
	}
	id := match[1]
	secret := store.have["bootstrap-token-"+id]
	if secret == nil || secret.Type != corev1.SecretTypeBootstrapToken {
		t.Fatalf("stored %v", store.have)
	}
	code, stdout, _ = command(t, "token", "list", "--data-dir", dir)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || len(lines) != 2 || !regexp.MustCompile(`^ID\s+TTL\s+EXPIRES\s+USAGES\s+DESCRIPTION$`).MatchString(lines[0]) ||
		!regexp.MustCompile(`^`+id+`\s+(59m|60m)\s+\S+Z\s+authentication,signing\s+for the boat$`).MatchString(lines[1]) {
		t.Fatalf("exit code %d, printed\n%s", code, stdout)
	}
	code, stdout, _ = command(t, "token", "create", "--data-dir", dir, "--print=token", "--ttl=0")
	token, ok := bootstrap.Parse(strings.TrimSpace(stdout))
	if code != 0 || !ok {
		t.Fatalf("exit code %d, printed %q", code, stdout)
	}
	if code, stdout, _ = command(t, "token", "list", "--data-dir", dir); code != 0 || !strings.Contains(stdout, "<forever>") || strings.Contains(stdout, token.Secret) {
		t.Fatalf("exit code %d, printed\n%s", code, stdout)
	}
	if code, stdout, _ = command(t, "token", "delete", "--data-dir", dir, id, token.Text()); code != 0 || strings.Count(stdout, "deleted") != 2 || len(store.have) != 0 {
		t.Fatalf("exit code %d, printed %q, left %v", code, stdout, store.have)
	}
	if code, _, stderr = command(t, "token", "delete", "--data-dir", dir, id); code != 1 || !strings.Contains(stderr, `there is no token "`+id) {
		t.Fatalf("exit code %d, printed %q", code, stderr)
	}
}

func TestCAHashNeedsNoServer(t *testing.T) {
	dir, server, store := cluster(t)
	server.Close()
	code, stdout, stderr := command(t, "token", "create", "--data-dir", dir, "--print=ca-hash")
	if code != 0 || !regexp.MustCompile(`^sha256:[0-9a-f]{64}\n$`).MatchString(stdout) || len(store.have) != 0 {
		t.Fatalf("exit code %d, printed %q %q", code, stdout, stderr)
	}
}

func TestTokenErrorsSayWhatToDo(t *testing.T) {
	dir, server, _ := cluster(t)
	server.Close()
	code, _, stderr := command(t, "token", "list", "--data-dir", dir)
	if code != 1 || !strings.Contains(stderr, "is the control plane running?") {
		t.Errorf("server away: exit code %d, printed %q", code, stderr)
	}
	foreign, _, _ := cluster(t)
	other, _, _ := cluster(t)
	text, err := os.ReadFile(filepath.Join(other, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	mine, err := os.ReadFile(filepath.Join(foreign, "admin.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`server: .*`)
	text = address.ReplaceAll(text, address.Find(mine))
	if err := os.WriteFile(filepath.Join(foreign, "admin.kubeconfig"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr = command(t, "token", "list", "--data-dir", foreign)
	if code != 1 || !strings.Contains(stderr, "does not belong to this cluster") {
		t.Errorf("foreign kubeconfig: exit code %d, printed %q", code, stderr)
	}
}

func TestPrintTokens(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	err := printTokens(&out, []bootstrap.Info{
		{ID: "aaaaaa", Expires: now.Add(23 * time.Hour), Usages: []string{"authentication"}, Description: "boat"},
		{ID: "bbbbbb", Expires: now.Add(-time.Hour)},
		{ID: "cccccc", Problem: "its token-id differs from its name"},
	}, now)
	want := `ID       TTL                                             EXPIRES                USAGES           DESCRIPTION
aaaaaa   23h                                             2026-11-22T11:00:00Z   authentication   boat
bbbbbb   <expired>                                       2026-11-21T11:00:00Z                    <none>
cccccc   <invalid: its token-id differs from its name>   <never>                                 <none>
`
	if err != nil || out.String() != want {
		t.Fatalf("%v, got\n%s\nwant\n%s", err, out.String(), want)
	}
}

// tlsConfig is that of the API: its serving pair, and client certificates of the cluster CA where they are shown.
func tlsConfig(m *pki.Material) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*m.Serving.Certificate()}, ClientCAs: m.CAPool(), ClientAuth: tls.VerifyClientCertIfGiven}
}
