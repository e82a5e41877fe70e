package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	nodev1 "coracle/proto/node/v1"
)

// openTimeout is how long a node may take to open a stream it was asked for; a round trip over a satellite and some load.
const openTimeout = 15 * time.Second

// Stream is an open stream to a node. Send and Recv may be called at the same time; Close ends both.
type Stream = interface {
	Send(*nodev1.Frame) error
	// Recv returns io.EOF when the node has said all.
	Recv() (*nodev1.Frame, error)
	Close() error
}

// broker matches the streams that agents open with the requests they answer.
type broker struct {
	mu      sync.Mutex
	waiting map[string]*waiter // by id
}

type waiter struct {
	node string
	got  chan *nodeStream // one slot: an id is used once
}

func newBroker() *broker { return &broker{waiting: map[string]*waiter{}} }

// nodeStream is an open Node.Stream, seen from the side that asked for it.
type nodeStream struct {
	rpc    nodev1.Node_StreamServer
	sendMu sync.Mutex
	once   sync.Once
	closed chan struct{}
}

// Send implements Stream.
func (s *nodeStream) Send(f *nodev1.Frame) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	select {
	case <-s.closed:
		return io.ErrClosedPipe
	default:
		return s.rpc.Send(f)
	}
}

// Recv implements Stream.
func (s *nodeStream) Recv() (*nodev1.Frame, error) { return s.rpc.Recv() }

// Close implements Stream. The call ends, and with it what the node does for it.
func (s *nodeStream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Open asks the node for a stream, through the gateway that holds its session. The error is
// one that the API's clients may be shown: 503 where the node is not connected, 504 where it
// does not answer.
func (g *Gateway) Open(ctx context.Context, node string, req *nodev1.StreamRequest) (Stream, error) {
	if s := g.session(node); s != nil {
		return g.openLocal(ctx, s, req)
	}
	st, err := g.peers.open(ctx, node, req)
	if errors.Is(err, errNoForward) {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("the agent of node %q is not connected: %s", node, g.since(node)))
	}
	return st, err
}

func (g *Gateway) openLocal(ctx context.Context, s *session, req *nodev1.StreamRequest) (Stream, error) {
	id := rand.Text()
	w := &waiter{node: s.node, got: make(chan *nodeStream, 1)}
	g.broker.mu.Lock()
	g.broker.waiting[id] = w
	g.broker.mu.Unlock()
	ask := proto.CloneOf(req)
	ask.Id = id
	s.say(&nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Stream{Stream: ask}})
	t := time.NewTimer(openTimeout)
	defer t.Stop()
	var err error
	select {
	case st := <-w.got:
		return st, nil
	case <-t.C:
		err = apierrors.NewTimeoutError(fmt.Sprintf("the agent of node %q did not open the stream within %s", s.node, openTimeout), 1)
	case <-s.ctx.Done():
		err = apierrors.NewServiceUnavailable(fmt.Sprintf("the agent of node %q has disconnected", s.node))
	case <-ctx.Done():
		err = ctx.Err()
	}
	g.broker.mu.Lock()
	delete(g.broker.waiting, id)
	g.broker.mu.Unlock()
	select {
	case st := <-w.got: // it came in between
		_ = st.Close()
	default:
	}
	return nil, err
}

// Stream implements nodev1.NodeServer.
func (n *nodeService) Stream(rpc nodev1.Node_StreamServer) error {
	first, err := rpc.Recv()
	if err != nil {
		return err
	}
	b, who := n.g.broker, callerOf(rpc.Context())
	b.mu.Lock()
	w := b.waiting[first.GetId()]
	if w == nil || w.node != who.node {
		b.mu.Unlock()
		return status.Error(codes.NotFound, "nobody waits for this stream")
	}
	delete(b.waiting, first.GetId())
	s := &nodeStream{rpc: rpc, closed: make(chan struct{})}
	w.got <- s
	b.mu.Unlock()
	select {
	case <-s.closed:
	case <-rpc.Context().Done():
		_ = s.Close()
	}
	// No send may be under way when the handler returns.
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return nil
}
