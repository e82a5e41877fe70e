package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"

	"coracle/internal/testport"
)

// privateRegistry serves images only to those who log in.
type privateRegistry struct{ address, user, password string }

func (r *privateRegistry) login() remote.Option {
	return remote.WithAuth(&authn.Basic{Username: r.user, Password: r.password})
}

func startPrivateRegistry(t *testing.T) (*privateRegistry, error) {
	dir := t.TempDir()
	ports, err := testport.Free(1)
	if err != nil {
		return nil, err
	}
	r := &privateRegistry{address: fmt.Sprintf("127.0.0.1:%d", ports[0]), user: "puller", password: "open sesame"}
	hash, err := bcrypt.GenerateFromPassword([]byte(r.password), bcrypt.MinCost)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %[1]s/data}}\nhttp: {addr: %q}\nauth: {htpasswd: {realm: test, path: %[1]s/users}}\n", dir, r.address)
	for name, content := range map[string]string{"users": r.user + ":" + string(hash) + "\n", "config.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	p := newProcess(dir, "private-registry", "docker-registry", "serve", filepath.Join(dir, "config.yml"))
	if err := p.start(); err != nil {
		return nil, err
	}
	t.Cleanup(p.stop)
	return r, eventually(20*time.Second, func() error {
		conn, err := net.Dial("tcp", r.address)
		if err != nil {
			return fmt.Errorf("%w: %s", err, p.tail(5))
		}
		return conn.Close()
	})
}

// stallingRegistry accepts requests and never answers.
func stallingRegistry(t *testing.T) string {
	stop := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { close(stop); _ = server.Close(); <-done })
	return l.Addr().String()
}
