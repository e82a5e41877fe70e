package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	nodev1 "coracle/proto/node/v1"
)

// session is one node's connection, from hello to its end.
type session struct {
	g      *Gateway
	node   string
	rpc    nodev1.Node_SessionServer
	ctx    context.Context // of the session, not of a call: ends it
	cancel context.CancelCauseFunc
	heard  atomic.Int64 // nanoseconds of the gateway's clock
	view   *view        // used by write alone

	mu    sync.Mutex
	dirty map[key]bool
	queue []*nodev1.GatewayMessage // acknowledgements and stream requests, in order
	// wake has one slot: more would say the same.
	wake chan struct{}
}

var (
	errReplaced = errors.New("the node has connected again")
	errExpired  = errors.New("the certificate of this connection has expired")
)

// nodeService implements nodev1.NodeServer.
type nodeService struct {
	nodev1.UnimplementedNodeServer
	g *Gateway
}

// Session implements nodev1.NodeServer.
func (n *nodeService) Session(rpc nodev1.Node_SessionServer) error {
	g, who := n.g, callerOf(rpc.Context())
	first, err := rpc.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "a session begins with a hello")
	}
	ctx, cancel := context.WithCancelCause(rpc.Context())
	defer cancel(nil)
	s := &session{
		g: g, node: who.node, rpc: rpc, ctx: ctx, cancel: cancel, view: newView(who.node),
		dirty: map[key]bool{}, wake: make(chan struct{}, 1),
	}
	s.hear()
	err = rpc.Send(&nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Welcome{Welcome: &nodev1.Welcome{
		Version: g.c.Version, Gateway: g.c.Name, HeartbeatSeconds: int64(heartbeat / time.Second),
		ClusterDomain: g.c.ClusterDomain, ClusterDns: g.c.ClusterDNS, ServerTimeUnix: g.c.Now().Unix(),
	}}})
	if err != nil {
		return err
	}
	g.begin(s, hello)
	defer g.finish(s)
	expiry := time.AfterFunc(who.cert.NotAfter.Sub(g.c.Now()), func() { s.end(errExpired) })
	defer expiry.Stop()
	// Recv returns only when the call is over, so the loop that calls it outlives this one by a
	// moment; Run waits for all of them.
	g.readers.Add(1)
	go func() {
		defer g.readers.Done()
		s.end(s.read())
	}()
	err = s.write(hello.GetHeld())
	g.c.Log.Debug("session ended", "node", s.node, "err", err)
	return err
}

// begin makes s the node's session; an older one is ended.
func (g *Gateway) begin(s *session, hello *nodev1.Hello) {
	g.mu.Lock()
	old := g.sessions[s.node]
	g.sessions[s.node] = s
	delete(g.ended, s.node)
	if hello.GetPoll() {
		g.expect[s.node] = 3 * time.Duration(max(hello.GetPollSeconds(), 1)) * time.Second
	} else {
		delete(g.expect, s.node)
	}
	g.mu.Unlock()
	if old != nil {
		old.end(errReplaced)
	}
	g.leases.put(s.node, struct{}{})
	g.c.Log.Debug("session begins", "node", s.node, "agent", hello.GetVersion(), "poll", hello.GetPoll())
}

// finish takes s out of everything that knows it.
func (g *Gateway) finish(s *session) {
	g.mu.Lock()
	for k, who := range g.watching {
		if delete(who, s); len(who) == 0 {
			delete(g.watching, k)
		}
	}
	current := g.sessions[s.node] == s
	var away time.Duration
	if current {
		delete(g.sessions, s.node)
		g.ended[s.node] = s.heardAt()
		away = max(g.expect[s.node], endDelay)
	}
	g.mu.Unlock()
	// What it said stays said, but is not defended any more: others may now judge the node.
	g.pods.remove(func(_ podRef, r podReport) bool { return r.from == s && r.done.Load() })
	g.nodes.remove(func(_ string, r nodeReport) bool { return r.from == s && r.done.Load() })
	if !current {
		return
	}
	g.leases.after(s.node, away)
}

func (s *session) hear()              { s.heard.Store(s.g.c.Now().UnixNano()) }
func (s *session) heardAt() time.Time { return time.Unix(0, s.heard.Load()) }

// end breaks the session off; the first reason given stands.
func (s *session) end(reason error) { s.cancel(reason) }

// mark says that an object is to be looked at again.
func (s *session) mark(k key) {
	s.mu.Lock()
	s.dirty[k] = true
	s.mu.Unlock()
	s.awake()
}

// say queues a message behind those queued before. The queue grows with what the agent
// itself sends and with open streams, both of which flow control holds back.
func (s *session) say(m *nodev1.GatewayMessage) {
	s.mu.Lock()
	s.queue = append(s.queue, m)
	s.mu.Unlock()
	s.awake()
}

func (s *session) awake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) ack(kind nodev1.StatusAck_Kind, uid string, sequence uint64) {
	s.say(&nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_StatusAck{StatusAck: &nodev1.StatusAck{Kind: kind, Uid: uid, Sequence: sequence}}})
}

// write is the only sender after the welcome.
func (s *session) write(held []*nodev1.Object) error {
	msgs, err := s.view.begin(held, s.g.world)
	if err != nil {
		return status.Errorf(codes.Unavailable, "assignments of node %s: %s", s.node, err)
	}
	s.watch(s.view)
	msgs = append(msgs, &nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Complete{Complete: &nodev1.Complete{N: 1}}})
	// References were looked up before they were watched: look at them once more.
	for k := range s.view.refs {
		s.mark(k)
	}
	for {
		for _, m := range msgs {
			if err := s.rpc.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-s.ctx.Done():
			return s.verdict()
		case <-s.wake:
		}
		if msgs, err = s.gather(); err != nil {
			return status.Errorf(codes.Unavailable, "assignments of node %s: %s", s.node, err)
		}
	}
}

// gather takes what is queued and what has changed.
func (s *session) gather() ([]*nodev1.GatewayMessage, error) {
	s.mu.Lock()
	msgs, dirty := s.queue, s.dirty
	s.queue, s.dirty = nil, map[key]bool{}
	s.mu.Unlock()
	for k := range dirty {
		changes, err := s.view.change(k, s.g.world)
		if err != nil {
			return nil, fmt.Errorf("look at %s: %w", k, err)
		}
		msgs = append(msgs, changes...)
		if k.kind == kindPod {
			s.watchPod(k)
		}
	}
	return msgs, nil
}

// watch has the gateway mark what the node's pods refer to when it changes.
func (s *session) watch(v *view) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	for k := range v.refs {
		s.g.watchLocked(k, s)
	}
}

// watchPod does so for one pod. What is not referred to any more costs a look when it changes, nothing else.
func (s *session) watchPod(pod key) {
	refs := s.view.pods[pod]
	var fresh []key
	s.g.mu.Lock()
	for _, k := range refs {
		if s.g.watchLocked(k, s) {
			fresh = append(fresh, k)
		}
	}
	s.g.mu.Unlock()
	for _, k := range fresh {
		s.mark(k) // it may have changed between the look and now
	}
}

func (g *Gateway) watchLocked(k key, s *session) (fresh bool) {
	if g.watching[k] == nil {
		g.watching[k] = map[*session]bool{}
	}
	fresh = !g.watching[k][s]
	g.watching[k][s] = true
	return fresh
}

// verdict is what the agent is told when the session ends from this side.
func (s *session) verdict() error {
	cause := context.Cause(s.ctx)
	switch {
	case cause == nil, errors.Is(cause, io.EOF), errors.Is(cause, context.Canceled):
		return nil
	case errors.Is(cause, errReplaced):
		return status.Error(codes.Aborted, errReplaced.Error())
	case errors.Is(cause, errSilent), errors.Is(cause, errExpired):
		return status.Error(codes.Unavailable, cause.Error())
	}
	return cause
}

// read takes the agent's messages until the call is over.
func (s *session) read() error {
	for {
		m, err := s.rpc.Recv()
		if err != nil {
			return err
		}
		s.hear()
		if s.ctx.Err() != nil {
			return context.Cause(s.ctx) // replaced: what an old session says must not follow what the new one said
		}
		switch m := m.GetMessage().(type) {
		case *nodev1.AgentMessage_PodStatus:
			s.g.takePod(s, m.PodStatus)
		case *nodev1.AgentMessage_NodeStatus:
			s.g.takeNode(s, m.NodeStatus)
		case *nodev1.AgentMessage_MirrorPods:
			s.g.takeMirrors(s, m.MirrorPods)
		case *nodev1.AgentMessage_Event:
			s.g.takeEvent(s, m.Event)
		}
	}
}
