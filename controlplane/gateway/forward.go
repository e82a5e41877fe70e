package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"coracle/internal/liveness"
	nodev1 "coracle/proto/node/v1"
)

// peers are the connections to other gateways, made when first needed.
type peers struct {
	g *Gateway

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by address
}

func newPeers(g *Gateway) *peers { return &peers{g: g, conns: map[string]*grpc.ClientConn{}} }

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close() // the process is going; nothing is to be saved
	}
	clear(p.conns)
}

// open asks the gateway that holds the node's session. errNoForward where there is none or
// it cannot be reached from here.
func (p *peers) open(ctx context.Context, node string, req *nodev1.StreamRequest) (Stream, error) {
	if p.g.c.GetPeerCertificate == nil {
		return nil, errNoForward
	}
	holder, live := p.g.holder(node)
	if !live || holder == p.g.c.Name {
		return nil, errNoForward
	}
	lease, err := p.g.world.lease.Leases(liveness.GatewayLeaseNamespace).Get(liveness.GatewayLeaseName(holder))
	if err != nil || lease.Annotations[addressAnnotation] == "" {
		return nil, errNoForward
	}
	conn, err := p.dial(lease.Annotations[addressAnnotation])
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	rpc, err := nodev1.NewPeerClient(conn).Stream(ctx)
	if err == nil {
		err = rpc.Send(&nodev1.PeerFrame{Node: node, Request: req})
	}
	if err == nil {
		// The first frame says that the node has opened its stream.
		_, err = rpc.Recv()
	}
	if err != nil {
		cancel()
		if s := status.Convert(err); s.Code() == codes.DeadlineExceeded {
			return nil, apierrors.NewTimeoutError(s.Message(), 1)
		}
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("node %q, asked through control plane %s: %s", node, holder, status.Convert(err).Message()))
	}
	return &peerStream{rpc: rpc, cancel: cancel}, nil
}

func (p *peers) dial(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.conns[address]; c != nil {
		return c, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address of a gateway: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.g.c.CAPEM)
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: host,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return p.g.c.GetPeerCertificate() },
	})), grpc.WithDisableServiceConfig())
	if err != nil {
		return nil, fmt.Errorf("connection to gateway %s: %w", address, err)
	}
	p.conns[address] = conn
	return conn, nil
}

type peerStream struct {
	rpc    nodev1.Peer_StreamClient
	sendMu sync.Mutex
	cancel context.CancelFunc
}

// Send implements Stream.
func (s *peerStream) Send(f *nodev1.Frame) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return s.rpc.Send(&nodev1.PeerFrame{Frame: f})
}

// Recv implements Stream.
func (s *peerStream) Recv() (*nodev1.Frame, error) { return s.rpc.Recv() }

// Close implements Stream.
func (s *peerStream) Close() error {
	s.cancel()
	return nil
}

// peerService implements nodev1.PeerServer.
type peerService struct {
	nodev1.UnimplementedPeerServer
	g *Gateway
}

// Stream implements nodev1.PeerServer: it relays between another gateway and a node that is connected here.
func (p *peerService) Stream(rpc nodev1.Peer_StreamServer) error {
	first, err := rpc.Recv()
	if err != nil {
		return err
	}
	s := p.g.session(first.GetNode())
	if s == nil || first.GetRequest() == nil {
		return status.Errorf(codes.Unavailable, "the agent of node %q is not connected here: %s", first.GetNode(), p.g.since(first.GetNode()))
	}
	st, err := p.g.openLocal(rpc.Context(), s, first.GetRequest())
	if err != nil {
		if apierrors.IsTimeout(err) {
			return status.Error(codes.DeadlineExceeded, err.Error())
		}
		return status.Error(codes.Unavailable, err.Error())
	}
	defer func() { _ = st.Close() }() // never fails
	if err := rpc.Send(&nodev1.Frame{}); err != nil {
		return err
	}
	// Recv returns when this call is over, or the asking side has closed.
	p.g.readers.Add(1)
	go func() {
		defer p.g.readers.Done()
		defer func() { _ = st.Close() }() // never fails
		for {
			f, err := rpc.Recv()
			if err != nil || f.GetFrame() == nil || st.Send(f.GetFrame()) != nil {
				return
			}
		}
	}()
	for {
		f, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
		if err := rpc.Send(f); err != nil {
			return err
		}
	}
}
