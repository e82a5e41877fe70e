package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"coracle/internal/testport"
)

// newPlane lays out a control plane of the test's own, without a node, and stops it at the test's end. Further
// arguments go to serve. It is not started yet.
func newPlane(t testing.TB, name string, args ...string) *cluster {
	t.Helper()
	ports, err := testport.Free(2)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{dir: t.TempDir(), apiPort: ports[0], gwPort: ports[1]}
	c.kubeconfig = filepath.Join(c.dir, "admin.kubeconfig")
	c.control = newProcess(c.dir, "controlplane", append([]string{binary("coracle-controlplane"), "serve",
		"--data-dir", c.dataDir(), "--kubeconfig", c.kubeconfig, "--name", name,
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
		"--secure-port", fmt.Sprint(c.apiPort), "--gateway-port", fmt.Sprint(c.gwPort), "--pod-cidr", "10.212.0.0/16"}, args...)...)
	t.Cleanup(func() {
		c.control.stop()
		if t.Failed() {
			t.Logf("--- control plane %s\n%s", name, c.control.tail(40))
		}
	})
	return c
}

func (c *cluster) dataDir() string { return filepath.Join(c.dir, "controlplane") }

// serve starts the control plane and waits until it is ready.
func (c *cluster) serve(t testing.TB) {
	t.Helper()
	if err := c.control.start(); err != nil {
		t.Fatal(err)
	}
	c.waitServing(t)
}

func (c *cluster) waitServing(t testing.TB) {
	t.Helper()
	if err := c.waitAnswer(); err != nil {
		t.Fatalf("control plane not ready: %v\n%s", err, c.control.tail(20))
	}
}

// shareKeys gives c the authority and the keys of another control plane: all of one cluster have the same.
func (c *cluster) shareKeys(t testing.TB, other *cluster) {
	t.Helper()
	if err := os.MkdirAll(c.dataDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := output(nil, "", "cp", "-a", filepath.Join(other.dataDir(), "pki"), c.dataDir()); err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"apiserver.pem", "gateway.pem"} {
		if err := os.Remove(filepath.Join(c.dataDir(), "pki", own)); err != nil {
			t.Fatal(err)
		}
	}
}
