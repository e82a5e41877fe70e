package gateway

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"coracle/agent/identity"
	agentsession "coracle/agent/session"
	"coracle/agent/status"
	"coracle/agent/store"
	"coracle/controlplane/pki"
	"coracle/internal/liveness"
)

// wire is a listener whose connections are made in memory; it counts what travels.
type wire struct {
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
	bytes   atomic.Int64
	packets atomic.Int64
	cut     atomic.Bool
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return &counted{c, w}, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.once.Do(func() { close(w.closed) }); return nil }
func (w *wire) Addr() net.Addr { return &net.UnixAddr{Name: "wire"} }

func (w *wire) dial(context.Context, string) (net.Conn, error) {
	if w.cut.Load() {
		return nil, errors.New("no route to host")
	}
	here, there := net.Pipe()
	w.conns <- there
	return &counted{here, w}, nil
}

type counted struct {
	net.Conn
	w *wire
}

func (c *counted) Write(p []byte) (int, error) {
	if c.w.cut.Load() {
		return len(p), nil // the cable is pulled: nothing arrives and nobody says so
	}
	c.w.bytes.Add(int64(len(p)))
	c.w.packets.Add(1)
	return c.Conn.Write(p)
}

// Two hours of an idle node, in a moment, stand for a day: what travels, what is written to the API and to disk;
// then the cable is pulled, and the silence is noticed.
func TestIdleDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))) // certificates do not begin before this program
		w := &wire{conns: make(chan net.Conn), closed: make(chan struct{})}
		dir := t.TempDir()
		material, err := pki.Ensure(filepath.Join(dir, "pki"), pki.Options{Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		pods := testPod("web", "u1", "n1")
		api := fake.NewClientset(tokenSecret(""), pods)
		factory := informers.NewSharedInformerFactory(api, 0)
		g, err := New(Config{
			Client: api, Informers: factory, Signer: material, CAPEM: material.CAPEM, GetCertificate: material.Gateway.GetCertificate,
			Listener: w, Name: "cp-1", Log: quiet(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		factory.Start(ctx.Done())
		var all sync.WaitGroup
		agent, stopAgent := context.WithCancel(context.Background())
		defer func() {
			stopAgent()
			cancel()
			all.Wait()
			factory.Shutdown()
		}()
		all.Go(func() { _ = g.Run(ctx) })
		id, err := identity.Join(ctx, identity.JoinConfig{
			Server: "localhost:6444", Token: goodToken, CAHash: material.CAHash(), NodeName: "n1", Dir: filepath.Join(dir, "id"), Log: quiet(), Dial: w.dial,
		})
		if err != nil {
			t.Fatal(err)
		}
		disk, err := store.Open(filepath.Join(dir, "store.db"), quiet())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = disk.Close() })
		outbox, err := status.NewOutbox(disk, quiet())
		if err != nil {
			t.Fatal(err)
		}
		s, err := agentsession.New(agentsession.Config{Server: "localhost:6444", Identity: id, Store: disk, Outbox: outbox, Streams: echo{}, Log: quiet(), Dial: w.dial})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() { _ = s.Run(agent) })
		all.Go(func() { _ = outbox.Run(agent) })
		node := readyNode("n1")
		outbox.SetNode(node)
		outbox.SetPod("u1", "default", "web", running("10.0.0.7"), false)
		time.Sleep(time.Minute)
		if !s.State().Connected || !outbox.Empty() || len(disk.Pods()) != 1 {
			t.Fatalf("not settled: %+v", s.State())
		}

		api.ClearActions()
		bytes, packets := w.bytes.Load(), w.packets.Load()
		writes := disk.Watch()
		const part = 12            // of a day
		for range 24 * 60 / part { // a node status each minute, as the reporter's looks find no change
			node.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
			outbox.SetNode(node)
			time.Sleep(time.Minute)
		}
		// An IP and TCP header with options for each packet, and another for its acknowledgement.
		bytes, packets = part*(w.bytes.Load()-bytes), part*(w.packets.Load()-packets)
		day := bytes + packets*2*52
		t.Logf("an idle day: %d bytes in %d packets, %d with headers", bytes, packets, day)
		if day > 5_000_000 {
			t.Errorf("%d bytes in a day, the budget is 5 MB", day)
		}
		if len(writes) != 0 {
			t.Errorf("the store was written: %v", <-writes)
		}
		for _, a := range api.Actions() {
			switch a.GetVerb() {
			case "get", "list", "watch":
			default:
				if a.GetNamespace() != liveness.GatewayLeaseNamespace { // the gateway's own, which is one for all nodes
					t.Fatalf("an idle node causes %s of %s in %q", a.GetVerb(), a.GetResource().Resource, a.GetNamespace())
				}
			}
		}

		w.cut.Store(true)
		pulled := time.Now()
		time.Sleep(silence + 2*sweepInterval)
		if g.session("n1") != nil || g.Alive("n1") {
			t.Errorf("a silent node is still taken for connected after %s", time.Since(pulled))
		}
		time.Sleep(endDelay + time.Second)
		lease, err := api.CoordinationV1().Leases(liveness.NodeLeaseNamespace).Get(ctx, "n1", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ended := liveness.ReadSession(lease).Ended
		if d := pulled.Sub(ended); ended.IsZero() || d > heartbeat+time.Second || d < -time.Second {
			t.Errorf("the session ended at %v, the cable was pulled at %v: it is to be when the node was last heard of", ended, pulled)
		}
		_, err = g.Open(ctx, "n1", nil)
		if want := "it was last heard of at " + ended.UTC().Format(time.RFC3339); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}

		w.cut.Store(false)
		time.Sleep(2 * time.Minute)
		if !g.Alive("n1") || !s.State().Connected {
			t.Errorf("not back: %+v", s.State())
		}
		if _, ok := disk.Pod("u1"); !ok {
			t.Error("the pod was forgotten")
		}
	})
}
