package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"coracle/agent/identity"
	agentsession "coracle/agent/session"
	"coracle/agent/status"
	"coracle/agent/store"
	"coracle/controlplane/pki"
	"coracle/internal/testport"
	"coracle/internal/testwait"
	nodev1 "coracle/proto/node/v1"
)

const goodToken = "abcdef.0123456789abcdef"

func quiet() *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

// cluster is a gateway over an API in memory, reached over real TLS on loopback.
type cluster struct {
	t       *testing.T
	api     *fake.Clientset
	pki     *pki.Material
	gateway *Gateway
	address string
	clock   *clock
	stop    func()
}

type clock struct {
	mu    sync.Mutex
	off   time.Duration
	stood time.Time // zero: it goes
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stood.IsZero() {
		return c.stood.Add(c.off)
	}
	return time.Now().Add(c.off)
}

// stand stops the clock: from then on it is only advanced.
func (c *clock) stand() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stood = time.Now()
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}

func tokenSecret(expiration string) *v1.Secret {
	s := &v1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef"}, Type: v1.SecretTypeBootstrapToken,
		Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"),
			"usage-bootstrap-authentication": []byte("true"), "usage-bootstrap-signing": []byte("true"),
		},
	}
	if expiration != "" {
		s.Data["expiration"] = []byte(expiration)
	}
	return s
}

func newCluster(t *testing.T, objects ...*v1.Pod) *cluster {
	t.Helper()
	c := &cluster{t: t, clock: &clock{}}
	var err error
	if c.pki, err = pki.Ensure(filepath.Join(t.TempDir(), "pki"), pki.Options{Log: quiet()}); err != nil {
		t.Fatal(err)
	}
	c.api = fake.NewClientset(tokenSecret(""))
	for _, p := range objects {
		if err := c.api.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	ports, err := testport.Free(1) // for its restarts, too
	if err != nil {
		t.Fatal(err)
	}
	c.start(fmt.Sprintf("127.0.0.1:%d", ports[0]))
	t.Cleanup(func() { c.stop() })
	return c
}

// start runs a gateway; after a stop it is a restart at the same address.
func (c *cluster) start(address string) {
	c.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.address = l.Addr().String()
	factory := informers.NewSharedInformerFactory(c.api, 0)
	c.gateway, err = New(Config{
		Client: c.api, Informers: factory, Signer: c.pki, CAPEM: c.pki.CAPEM, GetCertificate: c.pki.Gateway.GetCertificate,
		GetPeerCertificate: func() (*tls.Certificate, error) { return c.pki.Gateway.Certificate(), nil },
		Listener:           l, AdvertiseAddress: c.address, Name: "cp-1", Version: "test", ClusterDNS: []string{"10.96.0.10"}, Log: quiet(), Now: c.clock.now,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	factory.Start(ctx.Done())
	var g errgroup.Group
	g.Go(func() error { return c.gateway.Run(ctx) })
	c.stop = func() {
		cancel()
		testwait.End(c.t, "the gateway", func() {
			if err := g.Wait(); err != nil {
				c.t.Errorf("gateway: %v", err)
			}
		})
		factory.Shutdown()
	}
}

// node is an agent's end: real identity, store, outbox and session.
type node struct {
	c       *cluster
	name    string
	dir     string
	id      *identity.Identity
	store   *store.Store
	outbox  *status.Outbox
	session *agentsession.Session
	streams agentsession.Streams
	poll    time.Duration
	stop    func()

	mu    sync.Mutex
	conns []net.Conn
}

func (c *cluster) join(name, dir string) (*identity.Identity, error) {
	return identity.Join(context.Background(), identity.JoinConfig{
		Server: c.address, Token: goodToken, CAHash: c.pki.CAHash(), NodeName: name, Dir: dir, Log: quiet(), Now: c.clock.now,
	})
}

func (c *cluster) node(name string) *node {
	c.t.Helper()
	n := &node{c: c, name: name, dir: c.t.TempDir(), streams: echo{}}
	var err error
	if n.id, err = c.join(name, filepath.Join(n.dir, "identity")); err != nil {
		c.t.Fatal(err)
	}
	n.start()
	c.t.Cleanup(func() { n.stop() })
	return n
}

func (n *node) start() {
	n.c.t.Helper()
	var err error
	if n.store, err = store.Open(filepath.Join(n.dir, "store.db"), quiet()); err != nil {
		n.c.t.Fatal(err)
	}
	if n.outbox, err = status.NewOutbox(n.store, quiet()); err != nil {
		n.c.t.Fatal(err)
	}
	n.outbox.SetNode(readyNode(n.name))
	n.session, err = agentsession.New(agentsession.Config{
		Server: n.c.address, Identity: n.id, Store: n.store, Outbox: n.outbox, Streams: n.streams,
		Version: "test", BootID: "boot", Poll: n.poll, Log: quiet(), Now: n.c.clock.now, Dial: n.dial,
	})
	if err != nil {
		n.c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return n.session.Run(ctx) })
	g.Go(func() error { return n.outbox.Run(ctx) })
	n.stop = func() {
		cancel()
		testwait.End(n.c.t, "the agent", func() {
			if err := g.Wait(); err != nil {
				n.c.t.Errorf("agent: %v", err)
			}
		})
		_ = n.store.Close()
	}
}

func (n *node) restart() {
	n.stop()
	n.start()
}

func (n *node) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		n.mu.Lock()
		n.conns = append(n.conns, conn)
		n.mu.Unlock()
	}
	return conn, err
}

// cut breaks the connection without a word.
func (n *node) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

func readyNode(name string) *v1.Node {
	return &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			v1.LabelHostname: name, "site": "north", "node-restriction.kubernetes.io/x": "y",
		}},
		Status: v1.NodeStatus{
			Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "AgentReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}},
			Addresses:  []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.1"}},
		},
	}
}

// echo answers every stream: what comes on STDIN goes back on STDOUT, then exit code 7.
type echo struct{}

func (echo) Serve(_ context.Context, req *nodev1.StreamRequest, s agentsession.Stream) {
	for {
		f, err := s.Recv()
		if errors.Is(err, io.EOF) || err == nil && f.GetClose() {
			_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{ExitCode: 7, Error: req.GetExec().GetContainer()}})
			return
		}
		if err != nil {
			return
		}
		if s.Send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT, Data: f.GetData()}) != nil {
			return
		}
	}
}

func testPod(name, uid, node string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid)},
		Spec: v1.PodSpec{NodeName: node, ServiceAccountName: "default", Containers: []v1.Container{{Name: "c", Image: "i", EnvFrom: []v1.EnvFromSource{
			{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: name + "-cfg"}}},
		}}}},
	}
}

func running(ip string) v1.PodStatus {
	return v1.PodStatus{Phase: v1.PodRunning, PodIP: ip, Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionTrue}}}
}

// eventually polls a condition that other goroutines bring about; it returns as soon as it holds.
func eventually(t *testing.T, what string, cond func() error) {
	t.Helper()
	testwait.Nil(t, what, cond)
}

func (c *cluster) pod(name string) *v1.Pod {
	p, err := c.api.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

// holds says how the node's store differs from what it should hold; nil: not at all.
func (n *node) holds(want map[string]bool) error {
	got := map[string]bool{}
	for _, o := range n.store.Objects("") {
		if o.Kind != store.KindNode {
			got[o.Key().String()] = true
		}
	}
	for k := range want {
		if !got[k] {
			return fmt.Errorf("%s is missing", k)
		}
	}
	for k := range got {
		if !want[k] {
			return fmt.Errorf("%s is too many", k)
		}
	}
	if !n.store.Complete() {
		return fmt.Errorf("not complete")
	}
	return nil
}
