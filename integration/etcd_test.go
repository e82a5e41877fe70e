package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"coracle/internal/testport"
)

// externalEtcd is a real etcd, a process of its own, that speaks TLS and wants client certificates.
type externalEtcd struct {
	*process
	url   string
	ca    *authority
	flags []string // of serve, with which a control plane may use it
}

// etcdEnv, where it is set, makes this test program an etcd; so none has to be installed.
const etcdEnv = "CORACLE_INTEGRATION_ETCD"

// etcdConfig is the value of etcdEnv.
type etcdConfig struct{ Dir, URL, CA, Cert, Key string }

// serveEtcd runs an etcd until SIGTERM and returns the exit code.
func serveEtcd(config string) int {
	var c etcdConfig
	err := json.Unmarshal([]byte(config), &c)
	var client *url.URL
	if err == nil {
		client, err = url.Parse(c.URL)
	}
	if err != nil {
		fmt.Println(etcdEnv, err)
		return 2
	}
	e := embed.NewConfig()
	e.Dir, e.LogLevel = c.Dir, "warn"
	e.ListenClientUrls, e.AdvertiseClientUrls, e.ListenPeerUrls = []url.URL{*client}, []url.URL{*client}, nil
	e.ClientTLSInfo = transport.TLSInfo{CertFile: c.Cert, KeyFile: c.Key, TrustedCAFile: c.CA, ClientCertAuth: true}
	server, err := embed.StartEtcd(e)
	if err != nil {
		fmt.Println("start etcd:", err)
		return 1
	}
	defer server.Close()
	ended := make(chan os.Signal, 1) // one slot: the first is enough
	signal.Notify(ended, syscall.SIGTERM)
	select {
	case <-ended:
		return 0
	case err := <-server.Err():
		fmt.Println("etcd:", err)
		return 1
	}
}

func startEtcd(t *testing.T) *externalEtcd {
	t.Helper()
	ports, err := testport.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	e := &externalEtcd{url: fmt.Sprintf("https://127.0.0.1:%d", ports[0]), ca: newAuthority(t, "etcd-ca")}
	clientCert, clientKey := e.ca.client("control-plane")
	e.flags = []string{"--etcd-endpoints", e.url, "--etcd-ca-file", e.ca.file, "--etcd-cert-file", clientCert, "--etcd-key-file", clientKey}
	cert, key := e.ca.server("127.0.0.1")
	config, err := json.Marshal(etcdConfig{Dir: filepath.Join(dir, "data"), URL: e.url, CA: e.ca.file, Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e.process = newProcess(dir, "etcd", self)
	e.env = []string{etcdEnv + "=" + string(config)}
	if err := e.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.stop()
		if t.Failed() {
			t.Logf("--- etcd\n%s", e.tail(20))
		}
	})
	// A control plane that finds no etcd gives up: it is for its supervisor to try again.
	if err := eventually(30*time.Second, func() error {
		conn, err := net.Dial("tcp", e.url[len("https://"):])
		if err != nil {
			return fmt.Errorf("%w: %s", err, e.tail(5))
		}
		return conn.Close()
	}); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestExternalEtcd runs two control planes on one external etcd with client certificates.
func TestExternalEtcd(t *testing.T) {
	store := startEtcd(t)
	strangers := newAuthority(t, "strangers-ca")
	cert, key := strangers.client("stranger")
	ports, err := testport.Free(2)
	if err != nil {
		t.Fatal(err)
	}
	// Without a certificate that etcd knows, the start fails and says so.
	_, err = output(nil, "", "timeout", "60", binary("coracle-controlplane"), "serve", "--data-dir", t.TempDir(), "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
		"--secure-port", fmt.Sprint(ports[0]), "--gateway-port", fmt.Sprint(ports[1]),
		"--etcd-endpoints", store.url, "--etcd-ca-file", store.ca.file, "--etcd-cert-file", cert, "--etcd-key-file", key)
	if exitCode(err) != 1 || !strings.Contains(err.Error(), "no etcd endpoint answers") || !strings.Contains(err.Error(), "certificates") {
		t.Errorf("with a stranger's certificate: %v", err)
	}

	planes := []*cluster{newPlane(t, "plane-0", store.flags...), newPlane(t, "plane-1", store.flags...)}
	planes[0].serve(t)
	planes[1].shareKeys(t, planes[0])
	planes[1].serve(t)
	for i, p := range planes { // what one takes, the other gives
		if _, err := p.kubectl("create", "configmap", fmt.Sprintf("from-%d", i), "--from-literal=a=b"); err != nil {
			t.Fatal(err)
		}
		if err := eventually(10*time.Second, func() error {
			_, err := planes[1-i].kubectl("get", "configmap", fmt.Sprintf("from-%d", i))
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	if a, b := leader(t, planes[0], ""), leader(t, planes[1], ""); a != b {
		t.Errorf("one says that %s leads, the other that %s does", a, b)
	}
	etcdAway(t, store, planes)
	leaderDies(t, planes)
}

// leader waits for a holder of the lease that is not the given one.
func leader(t *testing.T, c *cluster, not string) string {
	t.Helper()
	holder := ""
	if err := eventually(60*time.Second, func() error {
		lease, err := c.client(t).CoordinationV1().Leases("kube-system").Get(context.Background(), "coracle-control", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if holder = ptr.Deref(lease.Spec.HolderIdentity, ""); holder == "" || holder == not {
			return fmt.Errorf("the lease is held by %q", holder)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return holder
}

// etcdAway stops etcd: requests fail with words that say what is away, and when it is back, so is everything else.
func etcdAway(t *testing.T, store *externalEtcd, planes []*cluster) {
	t.Helper()
	store.stop()
	for _, p := range planes {
		began := time.Now()
		_, err := p.kubectlStdin(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"never"}}`, "create", "--raw", "/api/v1/namespaces/default/configmaps?timeout=4s", "-f", "-")
		if err == nil {
			t.Error("with etcd away an object was created")
			continue
		}
		t.Logf("a create with etcd away, after %.1f s: %v", time.Since(began).Seconds(), err)
		if !strings.Contains(err.Error(), "the server was unable to return a response in the time allotted") && !strings.Contains(err.Error(), "etcd") {
			t.Errorf("with etcd away a create says: %v", err)
		}
		if _, err := p.kubectl("get", "--raw", "/readyz"); err == nil || !strings.Contains(err.Error(), "[-]etcd failed") {
			t.Errorf("with etcd away /readyz says: %v", err)
		}
		if p.control.exited() {
			t.Errorf("a control plane ended because etcd was away:\n%s", p.control.tail(5))
		}
	}
	if err := store.start(); err != nil {
		t.Fatal(err)
	}
	for i, p := range planes {
		p.waitServing(t)
		if _, err := p.kubectl("create", "configmap", fmt.Sprintf("after-%d", i), "--from-literal=a=b"); err != nil {
			t.Error(err)
		}
	}
}

// leaderDies kills the leader: the other's scheduler and controllers take over, on a node that is connected there.
func leaderDies(t *testing.T, planes []*cluster) {
	t.Helper()
	first := leader(t, planes[0], "") // it may have changed hands while etcd was away
	rest, dead := planes[0], planes[1]
	if first == "plane-0" {
		rest, dead = planes[1], planes[0]
	}
	f := startFleet(t, rest, "survivor", 2)
	waitNodesReady(t, rest, len(f.nodes))
	dead.control.kill()
	began := time.Now()
	if _, err := rest.kubectl("create", "deployment", "orphan", "--image=registry.example/app:1", "--replicas=3"); err != nil {
		t.Fatal(err)
	}
	if err := eventually(90*time.Second, func() error {
		list, err := rest.client(t).CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{LabelSelector: "app=orphan"})
		if err != nil {
			return err
		}
		running := 0
		for _, p := range list.Items {
			if p.Status.Phase == corev1.PodRunning && p.Spec.NodeName != "" {
				running++
			}
		}
		if running != 3 {
			return errors.New("the Deployment has " + fmt.Sprint(running) + " running pods")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s after kill -9 of the leader the other has made, bound and seen running what was asked of it", time.Since(began).Seconds())
	leader(t, rest, first)
}
