// Package gateway is the control plane's end of every node's one connection.
//
// It owns enrolment, the sessions (what each node is to hold, sent as differences), the
// intake of statuses and events, the broker of streams into nodes, and the Leases by which
// others know which nodes are alive. It is a client of the API like any other and holds no
// state that a restart would lose.
//
//	informers ─▶ dirty keys ─▶ view (what differs) ─▶ session ═▶ agent
//	API ◀─ workers keyed by pod ◀─ mailbox (latest wins) ◀─ session ◀═ agent
//	podstream ─▶ Open ─▶ request on the session ═▶ agent opens Node.Stream ─▶ matched by id
//
// Invariants: who a node is comes from its certificate alone; a node is sent nothing but what
// its own pods name, and may report on nothing but its own pods; a node has one session, the
// newest; an event costs work for the sessions it concerns, never a full list.
package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	nodev1 "coracle/proto/node/v1"
)

const (
	// heartbeat is how often an agent says something, at the least; silence ends the session.
	// Together they bound what an idle node costs (a metered link) and how late its death is seen.
	heartbeat     = 15 * time.Second
	silence       = 40 * time.Second
	sweepInterval = 5 * time.Second
	// maxMessage admits the largest object many times over, and the hello of a large node.
	maxMessage = 32 << 20
	// window is how much a stream may have under way: a good exec over a slow satellite.
	window = 1 << 20
)

// Signer issues node certificates; controlplane/pki.Material.
type Signer interface {
	SignNode(csrDER []byte, nodeName string, now time.Time) (certPEM []byte, err error)
}

// Config is what a gateway needs. Fields are required unless said otherwise.
type Config struct {
	Client    kubernetes.Interface
	Informers informers.SharedInformerFactory // started by the caller after New
	Signer    Signer
	// CAPEM is every CA that may have signed a node's or a peer's certificate; agents get it as what to trust.
	CAPEM []byte
	// GetCertificate returns the serving certificate, which may change while in use.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// GetPeerCertificate returns the certificate shown to other gateways, which may be the
	// serving one; its common name is PeerUser. Nil: this gateway does not forward.
	GetPeerCertificate func() (*tls.Certificate, error)
	// Listen is the address to serve on, default ":6444". Listener, where set, is used instead.
	Listen   string
	Listener net.Listener
	// AdvertiseAddress is host:port at which other gateways reach this one; empty: this gateway is not forwarded to.
	AdvertiseAddress string
	// Name tells this gateway from others of the cluster: a DNS label, the same after a restart.
	Name    string
	Version string
	// ClusterDomain and ClusterDNS are told to the nodes.
	ClusterDomain string
	ClusterDNS    []string
	Log           *slog.Logger
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// Gateway is safe for concurrent use.
type Gateway struct {
	c       Config
	roots   *x509.CertPool
	cas     [][]byte // DER, sent along with the serving certificate
	world   *listers
	limits  *joinLimits
	pods    *mailbox[podRef, podReport]
	nodes   *mailbox[string, nodeReport]
	events  *mailbox[string, eventReport]
	mirrors *mailbox[string, mirrorReport] // by node
	leases  *mailbox[string, struct{}]
	written written
	broker  *broker
	peers   *peers
	readers sync.WaitGroup // receive loops, which end when their connection does

	mu       sync.Mutex
	sessions map[string]*session       // by node
	watching map[key]map[*session]bool // by ConfigMap or Secret
	ended    map[string]time.Time      // by node: when its last session here ended
	expect   map[string]time.Duration  // by node: how long a poll node may stay away
	started  time.Time                 // of serving
}

// New prepares a gateway. It asks the factory for the informers it needs and adds its
// handlers, so it is to be called before the factory is started.
func New(c Config) (*Gateway, error) {
	if c.Listen == "" {
		c.Listen = ":6444"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	g := &Gateway{
		c: c, roots: x509.NewCertPool(), limits: newJoinLimits(),
		pods: newMailbox[podRef, podReport]("pod status"), nodes: newMailbox[string, nodeReport]("node status"),
		events: newMailbox[string, eventReport]("event"), mirrors: newMailbox[string, mirrorReport]("mirror pods"), leases: newMailbox[string, struct{}]("node lease"),
		written: written{pods: map[types.UID]*v1.Pod{}}, broker: newBroker(),
		sessions: map[string]*session{}, watching: map[key]map[*session]bool{},
		ended: map[string]time.Time{}, expect: map[string]time.Duration{},
	}
	certs, err := parseCerts(c.CAPEM)
	if err != nil {
		return nil, fmt.Errorf("gateway: cluster CA: %w", err)
	}
	for _, cert := range certs {
		g.roots.AddCert(cert)
		g.cas = append(g.cas, cert.Raw)
	}
	g.peers = newPeers(g)
	if g.world, err = newListers(c.Informers, g); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// Run serves until ctx ends. Nodes are let in when the informers have synced, so that no
// node is told that its pods do not exist.
func (g *Gateway) Run(ctx context.Context) error {
	l := g.c.Listener
	if l == nil {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", g.c.Listen); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
	}
	defer l.Close()
	if !cache.WaitForCacheSync(ctx.Done(), g.world.synced...) {
		return nil // ctx ended first
	}
	g.mu.Lock()
	g.started = g.c.Now()
	g.mu.Unlock()
	server := g.server()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(l); err != nil && ctx.Err() == nil {
			return fmt.Errorf("gateway: serve %s: %w", l.Addr(), err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		server.Stop() // sessions carry nothing that is not said again on the next one
		g.readers.Wait()
		g.peers.close()
		return nil
	})
	group.Go(func() error { return g.pods.run(ctx, podWorkers, g.c.Log, g.reportPod) })
	group.Go(func() error { return g.nodes.run(ctx, nodeWorkers, g.c.Log, g.reportNode) })
	group.Go(func() error { return g.events.run(ctx, eventWorkers, g.c.Log, g.reportEvent) })
	group.Go(func() error { return g.mirrors.run(ctx, mirrorWorkers, g.c.Log, g.reportMirrors) })
	group.Go(func() error { return g.leases.run(ctx, leaseWorkers, g.c.Log, g.writeNodeLease) })
	group.Go(func() error { return g.renewLease(ctx) })
	group.Go(func() error { return g.sweep(ctx) })
	g.c.Log.Info("gateway serves nodes", "address", l.Addr().String(), "name", g.c.Name)
	return group.Wait()
}

func (g *Gateway) server() *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(g.tlsConfig())),
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: silence, Timeout: silence / 2}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: heartbeat / 2, PermitWithoutStream: true}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		// Fixed windows: measuring the link, the library's default, answers each heartbeat with a
		// ping of its own, which was half of an idle node's traffic.
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(4*window),
		// Thousands of connections that are mostly silent: small buffers, shared while writing.
		grpc.ReadBufferSize(4<<10), grpc.WriteBufferSize(16<<10), grpc.SharedWriteBuffer(true),
	)
	nodev1.RegisterEnrollmentServer(s, &enrollment{g: g})
	nodev1.RegisterNodeServer(s, &nodeService{g: g})
	nodev1.RegisterPeerServer(s, &peerService{g: g})
	return s
}

// tlsConfig asks for a client certificate but leaves judging it to the interceptors, which
// can say in words what is wrong with it; TLS itself has proven that the caller has its key.
func (g *Gateway) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequestClientCert,
		NextProtos: []string{"h2"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := g.c.GetCertificate(hello)
			if err != nil {
				return nil, err
			}
			// A node that joins knows only the hash of the CA, so the CA itself is sent along.
			with := *cert
			with.Certificate = append([][]byte(nil), cert.Certificate...)
			for _, ca := range g.cas {
				with.Certificate = appendMissing(with.Certificate, ca)
			}
			return &with, nil
		},
	}
}

// sweep ends sessions that have gone silent.
func (g *Gateway) sweep(ctx context.Context) error {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := g.c.Now()
		g.mu.Lock()
		var silent []*session
		for _, s := range g.sessions {
			if now.Sub(s.heardAt()) > silence {
				silent = append(silent, s)
			}
		}
		g.mu.Unlock()
		for _, s := range silent {
			s.end(errSilent)
		}
	}
}

var errSilent = errors.New("nothing was heard of the node")

// session returns the node's session here, or nil.
func (g *Gateway) session(node string) *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sessions[node]
}

// Alive says whether the node has a session, here or with another gateway that is alive itself.
func (g *Gateway) Alive(node string) bool {
	if g.session(node) != nil {
		return true
	}
	holder, live := g.holder(node)
	return live && holder != g.c.Name
}

// Sessions is the number of nodes connected to this gateway.
func (g *Gateway) Sessions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.sessions)
}
