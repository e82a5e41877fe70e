// Package session is the node's end of the one connection to the control plane.
//
// It owns dialling, back-off, the exchange of assignments and reports, opening the streams
// that the gateway asks for, and renewing the node's certificate over the connection. What
// is received goes to the store and what is sent comes from the outbox: the session itself
// remembers nothing, so it may break off anywhere.
//
//	dial ─▶ hello(held) ─▶ welcome ─▶ assign… ─▶ complete ─▶ assign, remove …
//	     ─▶ statuses, events, heartbeats …   ◀─ acknowledgements, stream requests
//
// Invariants:
//   - nothing is stopped or forgotten because the server cannot be reached;
//   - nothing is removed from the store before the gateway has said that it named everything;
//   - Applied is said only of what is durable.
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/identity"
	"coracle/agent/store"
	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

const (
	// The first retry comes soon, as most interruptions are restarts of the control plane;
	// later ones are spread so that a thousand nodes do not come back in one second.
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
	// For soonAttempts, some minutes, no wait is longer than soonBackoff: somebody is probably mending it and looking on.
	soonBackoff  = 10 * time.Second
	soonAttempts = 40
	// refusedBackoff is used while the server turns the certificate down: only a person can mend that.
	refusedBackoff = 5 * time.Minute
	// steadyAfter is how long a session must last for the next loss to be treated as the first.
	steadyAfter = 30 * time.Second
	// connectTimeout bounds one attempt to connect, TLS included; slow satellite links need several seconds.
	connectTimeout = 20 * time.Second
	// A link that went dead without a word is noticed after at most the sum of these.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 15 * time.Second
	// window is how much of one stream may be under way.
	window = 1 << 20
	// tokenTimeout bounds one unary call.
	tokenTimeout = 15 * time.Second
)

// Identity is who the node is; agent/identity.Identity.
type Identity interface {
	NodeName() string
	TLS(host string, times func() []time.Time) *tls.Config
	RenewAt() time.Time
	NotAfter() time.Time
	Renew(ctx context.Context, client nodev1.EnrollmentClient) error
}

// Store is where assignments go; agent/store.Store.
type Store interface {
	Objects(kind string) []store.Object
	Apply(store.Batch) error
	PutFact(bucket, key string, value []byte) error
	Fact(bucket, key string) ([]byte, bool)
	ClockFloor() time.Time
	RaiseClockFloor(time.Time) error
}

// Outbox is where reports come from; agent/status.Outbox.
type Outbox interface {
	Changed() <-chan struct{}
	Pending(after uint64) ([]*nodev1.AgentMessage, uint64)
	Ack(*nodev1.StatusAck)
	Again(types.UID)
	Resend()
	Empty() bool
}

// Streams serves what the gateway asks for; agent/stream.Server.
type Streams interface {
	// Serve returns when the stream has ended; it ends it with a Result.
	Serve(ctx context.Context, req *nodev1.StreamRequest, stream Stream)
}

// Stream is one open Node.Stream. Send and Recv may be called at the same time, but each by one caller at a time.
type Stream = interface {
	Send(*nodev1.Frame) error
	Recv() (*nodev1.Frame, error)
}

// Config is what a session needs. Fields are required unless said otherwise.
type Config struct {
	Server   string // host:port of the gateway
	Identity Identity
	Store    Store
	Outbox   Outbox
	Streams  Streams
	Version  string // of the agent
	BootID   string // of this boot of the machine
	// Poll, where not zero, hangs up after each exchange and comes back after this interval.
	Poll time.Duration
	Log  *slog.Logger
	// Now is the machine's clock; default time.Now.
	Now func() time.Time
	// Dial replaces the way to reach the server, for a proxy or a test.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Session is safe for concurrent use.
type Session struct {
	c       Config
	host    string
	streams errgroup.Group // waited for by Run

	mu      sync.Mutex
	conn    *grpc.ClientConn // nil: not connected
	state   State
	renewed time.Time // when a renewal last succeeded, on the monotonic clock; zero: not in this run
}

// State is what `coracle-agent status` shows of the connection.
type State struct {
	Connected     bool      `json:"connected"`
	Since         time.Time `json:"since"` // of Connected; zero before the first change
	Server        string    `json:"server"`
	Gateway       string    `json:"gateway,omitempty"`       // that was connected to last
	ServerVersion string    `json:"serverVersion,omitempty"` // likewise
	Complete      uint64    `json:"complete"`                // number of the last complete mark of this connection
	LastError     string    `json:"lastError,omitempty"`
	LastErrorAt   time.Time `json:"lastErrorAt,omitzero"`
}

// New prepares a session; Run connects.
func New(c Config) (*Session, error) {
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil || host == "" || port == "" {
		return nil, fault.As(fault.ErrInvalid, fmt.Errorf("server address %q must be host:port", c.Server))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Session{c: c, host: host, state: State{Server: c.Server}}, nil
}

// State returns a copy of where the connection stands.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// times are those at which the server's certificate may be valid: what the clock says, and
// what is known to have passed where the clock is wrong.
func (s *Session) times() []time.Time {
	times := []time.Time{s.c.Now()}
	if floor := s.c.Store.ClockFloor(); !floor.IsZero() {
		times = append(times, floor)
	}
	return times
}

// Run connects again and again until ctx ends. It returns nil then, and never otherwise:
// being unable to reach the server is no reason to stop a node.
func (s *Session) Run(ctx context.Context) error {
	defer func() { _ = s.streams.Wait() }() // streams report to their caller, not here
	attempt, said := 0, ""
	for {
		began := time.Now()
		err := s.connect(ctx)
		s.disconnected(err)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, errReconnect) && err.Error() != said {
			said = err.Error()
			s.c.Log.Warn("no session with the control plane", "server", s.c.Server, "err", err)
		}
		if err == nil || time.Since(began) > steadyAfter {
			attempt, said = 0, ""
		}
		wait := s.pause(attempt, err)
		attempt++
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// errReconnect asks for a new connection at once, with the certificate that was just issued.
var errReconnect = errors.New("reconnect with the renewed certificate")

// pause is how long to wait before the next attempt.
func (s *Session) pause(attempt int, err error) time.Duration {
	if err == nil && s.c.Poll > 0 {
		return s.c.Poll - s.c.Poll/10 + rand.N(s.c.Poll/5+1)
	}
	if errors.Is(err, errReconnect) && attempt < 3 {
		return 0
	}
	limit := maxBackoff
	if attempt < soonAttempts {
		limit = soonBackoff
	}
	if errors.Is(err, identity.ErrRefused) {
		limit = refusedBackoff
	}
	d := min(limit, minBackoff<<min(attempt, 12))
	return d/2 + rand.N(d/2+1)
}

func (s *Session) connected(conn *grpc.ClientConn, w *nodev1.Welcome) {
	s.mu.Lock()
	s.conn = conn
	s.state.Connected, s.state.Since = true, s.c.Now()
	s.state.Gateway, s.state.ServerVersion = w.GetGateway(), w.GetVersion()
	s.mu.Unlock()
	if s.c.Poll == 0 {
		s.c.Log.Info("session with the control plane begins", "server", s.c.Server, "gateway", w.GetGateway(), "version", w.GetVersion())
	}
}

func (s *Session) disconnected(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
	if s.state.Connected {
		s.state.Connected, s.state.Since = false, s.c.Now()
	}
	if err != nil && !errors.Is(err, errReconnect) {
		s.state.LastError, s.state.LastErrorAt = err.Error(), s.c.Now()
	}
}

// dial prepares a connection; it is made by the first call on it.
func (s *Session) dial() (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(s.c.Identity.TLS(s.host, s.times))),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		// Fixed windows: measuring the link costs a ping for each message that comes after a pause.
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(4 * window),
		grpc.WithReadBufferSize(16 << 10), grpc.WithWriteBufferSize(16 << 10),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithUserAgent("coracle-agent/" + s.c.Version),
	}
	if s.c.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(s.c.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+s.c.Server, opts...)
	if err != nil {
		return nil, fmt.Errorf("prepare connection to %s: %w", s.c.Server, err)
	}
	return conn, nil
}

// Token asks for a service-account token bound to one of this node's pods. The error is
// fault.ErrUnavailable while there is no connection.
func (s *Session) Token(ctx context.Context, req *nodev1.TokenRequest) (*nodev1.TokenResponse, error) {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn == nil {
		return nil, fault.As(fault.ErrUnavailable, fmt.Errorf("token for pod %s/%s: not connected to %s", req.GetNamespace(), req.GetPodName(), s.c.Server))
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	answer, err := nodev1.NewNodeClient(conn).Token(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("token for pod %s/%s: %w", req.GetNamespace(), req.GetPodName(), identity.Refusal(err))
	}
	return answer, nil
}
