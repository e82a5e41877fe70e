package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/identity"
	"coracle/agent/store"
	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

const (
	// maxMessage admits the largest object etcd stores (1.5 MiB) many times over, and a hello of a large node.
	maxMessage = 32 << 20
	// batchLimit bounds how much is gathered for one transaction of the store.
	batchLimit = 512
	// defaultHeartbeat is used where the gateway names no interval.
	defaultHeartbeat = 10 * time.Second
	// lastWords is how long the gateway may take to hang up after we did, in poll mode.
	lastWords = 10 * time.Second

	bucketWelcome = "session"
)

// connect is one connection from dialling to its end. It returns nil where a poll is done.
func (s *Session) connect(ctx context.Context) error {
	conn, err := s.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is lost that is not said again
	if s.renewalDue() && s.renew(ctx, conn) == nil {
		return errReconnect
	}
	err = s.exchange(ctx, conn)
	// The server's clock decides what has expired, not ours.
	if errors.Is(err, identity.ErrRefused) && s.mayRenew() && s.renew(ctx, conn) == nil {
		return errReconnect
	}
	return err
}

// exchange is one session from hello to its end.
func (s *Session) exchange(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rpc, err := nodev1.NewNodeClient(conn).Session(ctx)
	if err != nil {
		return identity.Refusal(err)
	}
	hello := &nodev1.Hello{
		Version: s.c.Version, BootId: s.c.BootID, Held: s.held(),
		Poll: s.c.Poll > 0, PollSeconds: int64(s.c.Poll / time.Second),
	}
	// An error of Send says only that the stream has ended; Recv knows why.
	if err := rpc.Send(&nodev1.AgentMessage{Message: &nodev1.AgentMessage_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		return identity.Refusal(err)
	}
	first, err := rpc.Recv()
	if err != nil {
		return identity.Refusal(err)
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return fmt.Errorf("the gateway at %s did not begin with a welcome", s.c.Server)
	}
	if err := s.welcome(welcome); err != nil {
		return err
	}
	s.connected(conn, welcome)
	x := &exchange{
		s: s, rpc: rpc, conn: conn, removed: map[store.Key]bool{},
		in:      make(chan *nodev1.GatewayMessage, batchLimit), // lets the store take many in one transaction; a full one holds the gateway up by flow control
		applied: make(chan uint64, 16),                         // complete marks are rare; a full one waits for the sender
		beat:    time.Duration(welcome.GetHeartbeatSeconds()) * time.Second,
	}
	if s.c.Poll > 0 {
		x.acked = make(chan struct{}, 1)
	}
	if x.beat <= 0 {
		x.beat = defaultHeartbeat
	}
	return x.run(ctx)
}

// renewalDue says whether the clock has passed two thirds of the certificate's life.
func (s *Session) renewalDue() bool {
	return !s.c.Now().Before(s.c.Identity.RenewAt()) && s.mayRenew()
}

// mayRenew keeps a node whose clock is years ahead from renewing with each connection.
func (s *Session) mayRenew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewed.IsZero() || time.Since(s.renewed) > renewPause
}

// renew exchanges the certificate. A failure is logged; it matters only once the server
// refuses the old certificate, and then the refusal is the error to report.
func (s *Session) renew(ctx context.Context, conn *grpc.ClientConn) error {
	if err := s.c.Identity.Renew(ctx, nodev1.NewEnrollmentClient(conn)); err != nil {
		// That the server cannot be reached is said by the session itself.
		if ctx.Err() == nil && !errors.Is(err, fault.ErrUnavailable) {
			s.c.Log.Warn("certificate not renewed yet", "until", s.c.Identity.NotAfter().Format(time.RFC3339), "err", err)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed = time.Now()
	return nil
}

// held names everything in the store.
func (s *Session) held() []*nodev1.Object {
	objects := s.c.Store.Objects("")
	out := make([]*nodev1.Object, len(objects))
	for i, o := range objects {
		out[i] = &nodev1.Object{Kind: o.Kind, Uid: o.UID, ResourceVersion: o.ResourceVersion, Namespace: o.Namespace, Name: o.Name}
	}
	return out
}

// welcome keeps what a node must know to start offline.
func (s *Session) welcome(w *nodev1.Welcome) error {
	keep := proto.CloneOf(w)
	server := time.Unix(keep.GetServerTimeUnix(), 0)
	keep.ServerTimeUnix = 0 // would make each one different
	rec, err := proto.MarshalOptions{Deterministic: true}.Marshal(keep)
	if err != nil {
		return fmt.Errorf("encode welcome: %w", err)
	}
	if err := s.c.Store.PutFact(bucketWelcome, "welcome", rec); err != nil {
		return err
	}
	if w.GetServerTimeUnix() == 0 {
		return nil
	}
	return s.c.Store.RaiseClockFloor(server)
}

// Cluster returns what the gateway last said of the cluster, also after a restart without
// one in reach: its DNS suffix and the addresses of its DNS. Empty before the first welcome.
func (s *Session) Cluster() (domain string, dns []string) {
	rec, ok := s.c.Store.Fact(bucketWelcome, "welcome")
	if !ok {
		return "", nil
	}
	w := &nodev1.Welcome{}
	if err := proto.Unmarshal(rec, w); err != nil {
		s.c.Log.Error("what the gateway last said is unreadable", "err", err)
		return "", nil
	}
	return w.GetClusterDomain(), w.GetClusterDns()
}

// exchange is what happens on one connection after the welcome.
type exchange struct {
	s       *Session
	rpc     nodev1.Node_SessionClient
	conn    *grpc.ClientConn
	in      chan *nodev1.GatewayMessage
	applied chan uint64
	acked   chan struct{} // one slot, used in poll mode: "look whether the outbox is empty"
	beat    time.Duration

	complete bool // seen on this connection
	// removed waits for the first complete mark: until then the gateway may still be naming things.
	removed map[store.Key]bool
}

// errDone ends a poll.
var errDone = errors.New("exchanged")

func (x *exchange) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return x.receive(ctx) })
	g.Go(func() error { return x.apply(ctx) })
	g.Go(func() error { return x.send(ctx) })
	err := g.Wait()
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// receive takes messages off the wire. Stream requests and acknowledgements are handled at once, assignments in apply.
func (x *exchange) receive(ctx context.Context) error {
	for {
		m, err := x.rpc.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				if x.s.c.Poll > 0 {
					return errDone
				}
				return errors.New("the gateway ended the session")
			}
			return identity.Refusal(err)
		}
		switch m := m.GetMessage().(type) {
		case *nodev1.GatewayMessage_StatusAck:
			x.s.c.Outbox.Ack(m.StatusAck)
			select {
			case x.acked <- struct{}{}:
			default:
			}
			continue
		case *nodev1.GatewayMessage_Stream:
			x.open(ctx, m.Stream)
			continue
		}
		select {
		case x.in <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// open answers a stream request on a stream of its own. It outlives the session's other work but not the connection.
func (x *exchange) open(ctx context.Context, req *nodev1.StreamRequest) {
	x.s.streams.Go(func() error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		rpc, err := nodev1.NewNodeClient(x.conn).Stream(ctx)
		if err == nil {
			err = rpc.Send(&nodev1.Frame{Id: req.GetId()})
		}
		if err != nil {
			if ctx.Err() == nil {
				x.s.c.Log.Warn("stream not opened", "id", req.GetId(), "err", err)
			}
			return nil
		}
		stream := &endingStream{Stream: rpc, turn: make(chan struct{}, 1)}
		x.s.c.Streams.Serve(ctx, req, stream)
		if err := rpc.CloseSend(); err != nil {
			return nil // the connection is gone, and the other side knows
		}
		// Leave the RPC to end from the other side, or the last frames would be cut off with it.
		for {
			if _, err := stream.Recv(); err != nil {
				return nil
			}
		}
	})
}

// endingStream is a stream that may be received from by several, after its end too: whoever served it may still wait for
// input when the end is waited for here, and of gRPC's stream only one of them would ever be told.
type endingStream struct {
	Stream
	turn  chan struct{} // holds one element while somebody receives
	ended error         // read and written in one's turn
}

// Recv gives each frame to one caller and the end to all.
func (e *endingStream) Recv() (*nodev1.Frame, error) {
	e.turn <- struct{}{}
	defer func() { <-e.turn }()
	if e.ended != nil {
		return nil, e.ended
	}
	f, err := e.Stream.Recv()
	e.ended = err
	return f, err
}

// apply puts assignments into the store, many in one transaction when they come fast.
func (x *exchange) apply(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-x.in:
			batch := &gathered{put: map[store.Key]store.Object{}}
			x.gather(batch, m)
			for len(batch.put) < batchLimit && batch.complete == 0 {
				select {
				case m := <-x.in:
					x.gather(batch, m)
					continue
				default:
				}
				break
			}
			if err := x.flush(ctx, batch); err != nil {
				return err
			}
		}
	}
}

// gathered is what goes into one transaction.
type gathered struct {
	put      map[store.Key]store.Object
	order    []store.Key
	complete uint64
}

func (x *exchange) gather(b *gathered, m *nodev1.GatewayMessage) {
	switch m := m.GetMessage().(type) {
	case *nodev1.GatewayMessage_Assign:
		a := m.Assign
		o := store.Object{Kind: a.GetKind(), UID: a.GetUid(), ResourceVersion: a.GetResourceVersion(), Namespace: a.GetNamespace(), Name: a.GetName(), Data: a.GetData()}
		if _, ok := b.put[o.Key()]; !ok {
			b.order = append(b.order, o.Key())
		}
		b.put[o.Key()] = o
		delete(x.removed, o.Key())
	case *nodev1.GatewayMessage_Remove:
		r := m.Remove
		key := store.Object{Kind: r.GetKind(), UID: r.GetUid(), Namespace: r.GetNamespace(), Name: r.GetName()}.Key()
		delete(b.put, key)
		x.removed[key] = true
	case *nodev1.GatewayMessage_Complete:
		x.complete = true
		b.complete = max(b.complete, m.Complete.GetN())
	}
}

func (x *exchange) flush(ctx context.Context, b *gathered) error {
	batch := store.Batch{Complete: b.complete > 0}
	for _, k := range b.order {
		if o, ok := b.put[k]; ok {
			batch.Put = append(batch.Put, o)
		}
	}
	if x.complete {
		for k := range x.removed {
			batch.Delete = append(batch.Delete, k)
		}
		clear(x.removed)
	}
	if err := x.s.c.Store.Apply(batch); err != nil {
		// Nothing was acknowledged: the next connection says again what is held and gets the rest.
		return fmt.Errorf("keep assignments: %w", err)
	}
	for _, o := range batch.Put {
		if o.Kind == store.KindPod {
			x.s.c.Outbox.Again(types.UID(o.UID))
		}
	}
	if b.complete == 0 {
		return nil
	}
	x.s.mu.Lock()
	x.s.state.Complete = b.complete
	x.s.mu.Unlock()
	select {
	case x.applied <- b.complete:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send is the only one that writes to the session's stream.
func (x *exchange) send(ctx context.Context) error {
	x.s.c.Outbox.Resend()
	beat := time.NewTimer(x.beat)
	defer beat.Stop()
	renew := time.NewTimer(x.untilRenewal())
	defer renew.Stop()
	var sent uint64
	done := false // Applied was said
	for {
		var msgs []*nodev1.AgentMessage
		msgs, sent = x.s.c.Outbox.Pending(sent)
		for _, m := range msgs {
			if err := x.write(ctx, m); err != nil {
				return err
			}
		}
		if len(msgs) > 0 {
			beat.Reset(x.beat)
		}
		if x.s.c.Poll > 0 && done && x.s.c.Outbox.Empty() {
			return x.hangUp(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-x.s.c.Outbox.Changed():
		case <-x.acked:
		case n := <-x.applied:
			if err := x.write(ctx, &nodev1.AgentMessage{Message: &nodev1.AgentMessage_Applied{Applied: &nodev1.Applied{N: n}}}); err != nil {
				return err
			}
			done = true
		case <-beat.C:
			if err := x.write(ctx, &nodev1.AgentMessage{Message: &nodev1.AgentMessage_Heartbeat{Heartbeat: &nodev1.Heartbeat{}}}); err != nil {
				return err
			}
			beat.Reset(x.beat)
		case <-renew.C:
			if x.s.renewalDue() {
				_ = x.s.renew(ctx, x.conn) // logged, and tried again
			}
			renew.Reset(max(x.untilRenewal(), renewRetry))
		}
	}
}

// renewRetry is how soon a renewal that failed is tried again on a connection that stands.
const renewRetry = 10 * time.Minute

// renewPause is the least time between two renewals.
const renewPause = time.Hour

func (x *exchange) untilRenewal() time.Duration {
	return max(0, x.s.c.Identity.RenewAt().Sub(x.s.c.Now()))
}

// write sends one message. When the stream has ended, receive knows the reason and reports it first.
func (x *exchange) write(ctx context.Context, m *nodev1.AgentMessage) error {
	err := x.rpc.Send(m)
	if errors.Is(err, io.EOF) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// hangUp ends a poll from our side and waits for the gateway to have read all of it.
func (x *exchange) hangUp(ctx context.Context) error {
	if err := x.rpc.CloseSend(); err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-ctx.Done(): // receive saw the end
		return ctx.Err()
	case <-t.C:
		return errDone
	}
}
