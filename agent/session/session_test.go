package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	grpcstatus "google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/status"
	"coracle/agent/store"
	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

// gateway is the other end, told what to do by each test.
type gateway struct {
	nodev1.UnimplementedNodeServer
	nodev1.UnimplementedEnrollmentServer
	session func(nodev1.Node_SessionServer) error
	stream  func(nodev1.Node_StreamServer) error
}

func (g *gateway) Session(s nodev1.Node_SessionServer) error { return g.session(s) }
func (g *gateway) Stream(s nodev1.Node_StreamServer) error   { return g.stream(s) }

// identityOf is a node that trusts the test's server.
type testIdentity struct {
	mu      sync.Mutex
	roots   *x509.CertPool
	renewAt time.Time
	renewed int
	err     error
}

func (*testIdentity) NodeName() string { return "n1" }

func (i *testIdentity) TLS(string, func() []time.Time) *tls.Config {
	return &tls.Config{RootCAs: i.roots, ServerName: "gateway"}
}

func (i *testIdentity) RenewAt() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.renewAt
}

func (i *testIdentity) NotAfter() time.Time { return i.RenewAt().Add(time.Hour) }

func (i *testIdentity) Renew(context.Context, nodev1.EnrollmentClient) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.renewed++
	if i.err != nil {
		return i.err
	}
	i.renewAt = i.renewAt.Add(30 * 24 * time.Hour)
	return nil
}

// pipes is a listener whose connections are made in memory, so that the bubble's clock rules them.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	down   func() bool

	mu    sync.Mutex
	dials []time.Time
	open  []*link
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), down: func() bool { return false }}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(context.Context, string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials = append(p.dials, time.Now())
	if p.down() {
		return nil, errors.New("no route to host")
	}
	here, there := net.Pipe()
	p.conns <- there
	conn := &link{Conn: here}
	p.open = append(p.open, conn)
	return conn, nil
}

// link is a connection whose cable can be pulled: what is sent then goes nowhere and nothing comes.
type link struct {
	net.Conn
	pulled atomic.Bool
}

func (l *link) Write(p []byte) (int, error) {
	if l.pulled.Load() {
		return len(p), nil
	}
	return l.Conn.Write(p)
}

func (l *link) Read(p []byte) (int, error) {
	for {
		n, err := l.Conn.Read(p)
		if err != nil || !l.pulled.Load() {
			return n, err
		}
	}
}

func (p *pipes) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}

func (p *pipes) attempts() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.dials...)
}

// pass lets the bubble's time pass, and everything that was to happen in it.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// end is a node's end of a connection with its parts.
type end struct {
	gateway *gateway
	pipes   *pipes
	id      *testIdentity
	store   *store.Store
	outbox  *status.Outbox
	session *Session
	stop    func()
}

func start(t *testing.T, change func(*Config, *end)) *end {
	t.Helper()
	e := &end{gateway: &gateway{}, pipes: newPipes(), id: &testIdentity{roots: x509.NewCertPool(), renewAt: time.Now().Add(24 * 365 * time.Hour)}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"gateway"}, NotAfter: time.Now().Add(24 * 3650 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	e.id.roots.AddCert(cert)
	log := slog.New(slog.DiscardHandler)
	if e.store, err = store.Open(filepath.Join(t.TempDir(), "store.db"), log); err != nil {
		t.Fatal(err)
	}
	if e.outbox, err = status.NewOutbox(e.store, log); err != nil {
		t.Fatal(err)
	}
	config := Config{Server: "gateway:6444", Identity: e.id, Store: e.store, Outbox: e.outbox, Streams: discard{}, Version: "test", Log: log, Dial: e.pipes.dial}
	change(&config, e)
	if e.session, err = New(config); err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}), grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}})))
	nodev1.RegisterNodeServer(server, e.gateway)
	nodev1.RegisterEnrollmentServer(server, e.gateway)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(e.pipes) })
	wg.Go(func() {
		if err := e.session.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	e.stop = func() {
		cancel()
		server.Stop()
		wg.Wait()
		_ = e.store.Close()
	}
	return e
}

type discard struct{}

func (discard) Serve(context.Context, *nodev1.StreamRequest, Stream) {}

func welcome(s nodev1.Node_SessionServer, beat time.Duration) (*nodev1.Hello, error) {
	m, err := s.Recv()
	if err != nil {
		return nil, err
	}
	return m.GetHello(), s.Send(&nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Welcome{Welcome: &nodev1.Welcome{
		Gateway: "g", HeartbeatSeconds: int64(beat / time.Second), ClusterDomain: "cluster.local", ClusterDns: []string{"10.96.0.10"},
		ServerTimeUnix: time.Now().Unix(),
	}}})
}

func assigned(name string) *nodev1.GatewayMessage {
	return &nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Assign{Assign: &nodev1.Object{Kind: "Pod", Namespace: "d", Name: name, Uid: name, ResourceVersion: "1"}}}
}

func removed(name string) *nodev1.GatewayMessage {
	return &nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Remove{Remove: &nodev1.Object{Kind: "Pod", Namespace: "d", Name: name, Uid: name}}}
}

func complete(n uint64) *nodev1.GatewayMessage {
	return &nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Complete{Complete: &nodev1.Complete{N: n}}}
}

func (e *end) holds() string {
	out := ""
	for _, o := range e.store.Objects("Pod") {
		out += o.Name + " "
	}
	return out
}

func TestNothingIsRemovedBeforeComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hellos []*nodev1.Hello
		applied := make(chan uint64, 8)
		e := start(t, func(_ *Config, e *end) {
			if err := e.store.PutObject(store.Object{Kind: "Pod", Namespace: "d", Name: "old", UID: "old", ResourceVersion: "7"}); err != nil {
				t.Fatal(err)
			}
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				hello, err := welcome(s, time.Minute)
				if err != nil {
					return err
				}
				hellos = append(hellos, hello)
				for _, m := range []*nodev1.GatewayMessage{removed("old"), assigned("new")} {
					if err := s.Send(m); err != nil {
						return err
					}
				}
				if len(hellos) == 2 {
					// A pod named again before the mark is not removed.
					for _, m := range []*nodev1.GatewayMessage{removed("new"), assigned("new"), complete(1)} {
						if err := s.Send(m); err != nil {
							return err
						}
					}
				}
				for {
					m, err := s.Recv()
					if err != nil {
						return err
					}
					if a := m.GetApplied(); a != nil {
						applied <- a.GetN()
					}
				}
			}
		})
		defer e.stop()
		pass(10 * time.Second)
		if got := e.holds(); got != "new old " || e.store.Complete() {
			t.Fatalf("before the mark the node holds %q", got)
		}
		e.pipes.cut()
		pass(10 * time.Second)
		if got := e.holds(); got != "new " || !e.store.Complete() {
			t.Errorf("after the mark the node holds %q", got)
		}
		if n := <-applied; n != 1 || e.session.State().Complete != 1 {
			t.Errorf("applied %d, state %+v", n, e.session.State())
		}
		if len(hellos) != 2 || len(hellos[1].GetHeld()) != 2 || hellos[0].GetHeld()[0].GetResourceVersion() != "7" {
			t.Errorf("hellos %v", hellos)
		}
		if domain, dns := e.session.Cluster(); domain != "cluster.local" || len(dns) != 1 {
			t.Errorf("cluster %q %v", domain, dns)
		}
	})
}

func TestHeartbeatOnlyWhenNothingElseIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		beats, statuses := 0, 0
		e := start(t, func(_ *Config, e *end) {
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				if _, err := welcome(s, 10*time.Second); err != nil {
					return err
				}
				for {
					m, err := s.Recv()
					if err != nil {
						return err
					}
					mu.Lock()
					if m.GetHeartbeat() != nil {
						beats++
					}
					if p := m.GetPodStatus(); p != nil {
						statuses++
						if err := s.Send(&nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_StatusAck{StatusAck: &nodev1.StatusAck{Uid: p.GetUid(), Sequence: p.GetSequence()}}}); err != nil {
							mu.Unlock()
							return err
						}
					}
					mu.Unlock()
				}
			}
		})
		defer e.stop()
		pass(10*time.Minute + time.Second)
		if beats != 60 {
			t.Errorf("%d heartbeats in ten minutes", beats)
		}
		for i := range 120 { // a word every five seconds
			e.outbox.SetPod("u", "d", "web", v1.PodStatus{PodIP: fmt.Sprint(i)}, false)
			pass(5 * time.Second)
		}
		if beats != 60 || statuses != 120 {
			t.Errorf("%d heartbeats, %d statuses", beats, statuses)
		}
		if !e.outbox.Empty() {
			t.Error("acknowledgements are lost")
		}
		if n := len(e.pipes.attempts()); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		e := start(t, func(_ *Config, e *end) {
			e.pipes.down = down.Load
			if err := e.store.PutObject(store.Object{Kind: "Pod", Namespace: "d", Name: "old", UID: "old"}); err != nil {
				t.Fatal(err)
			}
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				if _, err := welcome(s, time.Minute); err != nil {
					return err
				}
				_, err := s.Recv()
				for err == nil {
					_, err = s.Recv()
				}
				return err
			}
		})
		defer e.stop()
		pass(time.Hour)
		n := len(e.pipes.attempts())
		if n < 120 || n > 260 {
			t.Errorf("%d attempts in an hour", n)
		}
		if s := e.session.State(); s.Connected || s.LastError == "" {
			t.Errorf("state %+v", s)
		}
		if _, err := e.session.Token(t.Context(), &nodev1.TokenRequest{}); !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("token: %v", err)
		}
		down.Store(false)
		pass(maxBackoff + time.Second)
		if !e.session.State().Connected || e.holds() != "old " {
			t.Errorf("state %+v, holds %q", e.session.State(), e.holds())
		}
		// After a session that lasted, the first retry comes soon.
		pass(time.Hour)
		lost := time.Now()
		e.pipes.cut()
		pass(5 * time.Second)
		all := e.pipes.attempts()
		if again := all[len(all)-1].Sub(lost); again < 0 || again > time.Second || !e.session.State().Connected {
			t.Errorf("again after %v, %+v", again, e.session.State())
		}
	})
}

func TestRefusedCertificateIsNotTriedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, func(_ *Config, e *end) {
			e.gateway.session = func(nodev1.Node_SessionServer) error {
				return grpcstatus.Error(codes.Unauthenticated, "the certificate expired long ago")
			}
		})
		defer e.stop()
		pass(2 * time.Hour)
		if n := len(e.pipes.attempts()); n > 60 {
			t.Errorf("%d attempts in two hours", n)
		}
	})
}

func TestCertificateIsRenewedOverAConnectionThatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := 0
		e := start(t, func(_ *Config, e *end) {
			e.id.renewAt = time.Now().Add(2 * time.Hour)
			e.id.err = errors.New("the control plane is busy")
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				sessions++
				if _, err := welcome(s, time.Minute); err != nil {
					return err
				}
				_, err := s.Recv()
				for err == nil {
					_, err = s.Recv()
				}
				return err
			}
		})
		defer e.stop()
		pass(2*time.Hour + time.Minute)
		if e.id.renewed != 1 || sessions != 1 {
			t.Fatalf("%d renewals tried, %d sessions", e.id.renewed, sessions)
		}
		e.id.mu.Lock()
		e.id.err = nil
		e.id.mu.Unlock()
		pass(renewRetry)
		if e.id.renewed != 2 || sessions != 1 || !e.session.State().Connected {
			t.Errorf("%d renewals, %d sessions", e.id.renewed, sessions)
		}
	})
}

func TestExpiredCertificateIsRenewedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := 0
		e := start(t, func(_ *Config, e *end) {
			e.id.renewAt = time.Now().Add(-48 * time.Hour)
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				sessions++
				_, err := welcome(s, time.Minute)
				if err == nil {
					_, err = s.Recv()
				}
				return err
			}
		})
		defer e.stop()
		pass(time.Second)
		if e.id.renewed != 1 || sessions != 1 {
			t.Errorf("%d renewals, %d sessions", e.id.renewed, sessions)
		}
	})
}

// A dead link is noticed although nobody says so.
func TestDeadLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, func(_ *Config, e *end) {
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				_, err := welcome(s, time.Minute)
				for err == nil {
					_, err = s.Recv()
				}
				return err
			}
		})
		defer e.stop()
		pass(time.Minute)
		e.pipes.mu.Lock()
		e.pipes.open[0].pulled.Store(true)
		e.pipes.mu.Unlock()
		pass(keepaliveTime + keepaliveTimeout + 2*time.Second)
		if n := len(e.pipes.attempts()); n != 2 || !e.session.State().Connected {
			t.Errorf("not noticed: %d connections, %+v", n, e.session.State())
		}
	})
}

// said is a session that answers a stream request and tells what came on the stream.
type parrot struct{ served chan string }

func (p parrot) Serve(_ context.Context, req *nodev1.StreamRequest, s Stream) {
	f, err := s.Recv()
	if err == nil {
		p.served <- string(f.GetData())
	}
	_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{ExitCode: 5}})
}

func TestStreamIsOpenedWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := parrot{served: make(chan string, 1)}
		result := make(chan int32, 1)
		ended := make(chan error, 1)
		e := start(t, func(c *Config, e *end) {
			c.Streams = p
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				if _, err := welcome(s, time.Minute); err != nil {
					return err
				}
				if err := s.Send(&nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Stream{Stream: &nodev1.StreamRequest{Id: "secret"}}}); err != nil {
					return err
				}
				_, err := s.Recv()
				for err == nil {
					_, err = s.Recv()
				}
				return err
			}
			e.gateway.stream = func(s nodev1.Node_StreamServer) error {
				first, err := s.Recv()
				if err != nil || first.GetId() != "secret" || len(first.GetData()) != 0 {
					return fmt.Errorf("first frame %v: %w", first, err)
				}
				if err := s.Send(&nodev1.Frame{Data: []byte("hello")}); err != nil {
					return err
				}
				f, err := s.Recv()
				if err != nil {
					return err
				}
				result <- f.GetResult().GetExitCode()
				_, err = s.Recv()
				ended <- err
				return nil
			}
		})
		defer e.stop()
		if got := <-p.served; got != "hello" {
			t.Errorf("served %q", got)
		}
		if code := <-result; code != 5 {
			t.Errorf("code %d", code)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// listener serves a stream as exec does: what takes the user's input off it still waits when the command has ended.
type listener struct{ heard chan error }

func (l listener) Serve(_ context.Context, _ *nodev1.StreamRequest, s Stream) {
	go func() {
		_, err := s.Recv()
		for err == nil {
			_, err = s.Recv()
		}
		l.heard <- err
	}()
	synctest.Wait() // it waits for the first frame
	_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{}})
}

// Without the end being told to both, the stream is never given up and the session's Run, which stop waits for, never returns.
func TestStreamEndsForAllWhoListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listener{heard: make(chan error, 1)}
		e := start(t, func(c *Config, e *end) {
			c.Streams = l
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				if _, err := welcome(s, time.Minute); err != nil {
					return err
				}
				if err := s.Send(&nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Stream{Stream: &nodev1.StreamRequest{Id: "secret"}}}); err != nil {
					return err
				}
				_, err := s.Recv()
				for err == nil {
					_, err = s.Recv()
				}
				return err
			}
			e.gateway.stream = func(s nodev1.Node_StreamServer) error {
				for range 2 { // the id, the result
					if _, err := s.Recv(); err != nil {
						return err
					}
				}
				_, err := s.Recv() // the end of what the agent sends; both listen by then
				synctest.Wait()
				if !errors.Is(err, io.EOF) {
					return err
				}
				return nil
			}
		})
		if err := <-l.heard; !errors.Is(err, io.EOF) {
			t.Errorf("the input ended with %v", err)
		}
		e.stop()
	})
}

func TestServerAddressMustHaveAPort(t *testing.T) {
	for _, server := range []string{"", "host", ":6444", "host:"} {
		if _, err := New(Config{Server: server}); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%q: %v", server, err)
		}
	}
}

// The clock stands at 1970, so the certificate does not look due; the server knows better.
func TestTheServersClockDecidesWhatHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, func(c *Config, e *end) {
			c.Now = func() time.Time { return time.Unix(1000, 0) }
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				e.id.mu.Lock()
				renewed := e.id.renewed
				e.id.mu.Unlock()
				if renewed == 0 {
					return grpcstatus.Error(codes.Unauthenticated, "the certificate expired yesterday")
				}
				_, err := welcome(s, time.Minute)
				for err == nil {
					_, err = s.Recv()
				}
				return err
			}
		})
		defer e.stop()
		pass(10 * time.Second)
		if e.id.renewed != 1 || !e.session.State().Connected {
			t.Errorf("%d renewals, %+v", e.id.renewed, e.session.State())
		}
	})
}

// A clock years ahead makes each new certificate look expired.
func TestAClockAheadDoesNotRenewWithEachConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, func(c *Config, e *end) {
			began := time.Now()
			c.Now = func() time.Time { return time.Now().Add(3 * 365 * 24 * time.Hour) }
			e.id.renewAt = began.Add(time.Hour)
			e.gateway.session = func(s nodev1.Node_SessionServer) error {
				_, err := welcome(s, time.Minute)
				for err == nil {
					_, err = s.Recv()
				}
				return err
			}
		})
		defer e.stop()
		pass(30 * time.Minute)
		if e.id.renewed != 1 || !e.session.State().Connected {
			t.Errorf("%d renewals, %+v", e.id.renewed, e.session.State())
		}
	})
}
