package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

// dialTimeout bounds connecting to a port of a pod, which is on this machine.
const dialTimeout = 10 * time.Second

func (s *Server) dial(ctx context.Context, req *nodev1.Dial, stream Stream, out *sender) error {
	conn, err := s.connect(ctx, req)
	if err != nil {
		return err
	}
	defer conn.Close()
	// The other side waits for this: the port has answered.
	if err := out.send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT}); err != nil {
		return err
	}
	return pump(ctx, conn, stream, out)
}

// connect reaches the port that is asked for.
func (s *Server) connect(ctx context.Context, req *nodev1.Dial) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	port := strconv.Itoa(int(req.GetPort()))
	if req.GetPodUid() == "" {
		if req.GetPort() == 0 {
			return s.node()
		}
		return classed(localhost(ctx, "", port))
	}
	p, err := s.pod(req.GetPodUid())
	if err != nil {
		return nil, err
	}
	if !req.GetInNetns() {
		status, _, _ := s.c.Statuses.Last(p.UID)
		if status.PodIP == "" {
			return nil, fault.As(fault.ErrUnavailable, fmt.Errorf("pod %s/%s has no address yet", p.Namespace, p.Name))
		}
		return classed((&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(status.PodIP, port)))
	}
	netns, err := s.netns(ctx, p)
	if err != nil {
		return nil, err
	}
	conn, err := classed(localhost(ctx, netns, port))
	if err != nil {
		return nil, fmt.Errorf("connect to localhost:%s in pod %s/%s: %w", port, p.Namespace, p.Name, err)
	}
	return conn, nil
}

// netns is the path of the pod's network namespace; empty: the node's own.
func (s *Server) netns(ctx context.Context, p *v1.Pod) (string, error) {
	if p.Spec.HostNetwork {
		return "", nil
	}
	observed, err := s.c.Runtime.Observe(ctx, p.UID)
	if err != nil {
		return "", fmt.Errorf("look at pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	if observed.Sandbox == nil || observed.Sandbox.NetnsPath == "" {
		return "", fault.As(fault.ErrConflict, fmt.Errorf("pod %s/%s is not running", p.Namespace, p.Name))
	}
	return observed.Sandbox.NetnsPath, nil
}

// localhost connects to a port on either of localhost's addresses, as servers listen on one or the other.
func localhost(ctx context.Context, netns, port string) (net.Conn, error) {
	conn, err := dialIn(ctx, netns, net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		return conn, nil
	}
	if conn, err6 := dialIn(ctx, netns, net.JoinHostPort("::1", port)); err6 == nil {
		return conn, nil
	}
	return nil, err
}

func classed(conn net.Conn, err error) (net.Conn, error) {
	if err == nil {
		return conn, nil
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = errors.New("connection refused")
	}
	return nil, fault.As(fault.ErrUnavailable, err)
}

// pump carries bytes both ways until both have ended, or the user has gone.
func pump(ctx context.Context, conn net.Conn, stream Stream, out *sender) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	// Recv returns when the stream ends, which Serve's caller brings about after Serve has returned.
	go func() {
		for {
			f, err := stream.Recv()
			if err != nil {
				_ = conn.Close() // the user has gone
				return
			}
			if len(f.GetData()) > 0 {
				if _, err := conn.Write(f.GetData()); err != nil {
					return // the port takes no more; what it still sends is carried on
				}
			}
			if f.GetClose() {
				if half, ok := conn.(interface{ CloseWrite() error }); ok {
					_ = half.CloseWrite() // the reading side notices what is wrong
				}
			}
		}
	}()
	_, err := io.CopyBuffer(out.to(nodev1.Frame_STDOUT), onlyReader{conn}, make([]byte, frameSize))
	if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		err = nil // an end like another to whoever is connected
	}
	if err != nil {
		return err
	}
	return out.send(&nodev1.Frame{Channel: nodev1.Frame_STDOUT, Close: true})
}

// onlyReader hides a connection's other abilities, so that the buffer is used.
type onlyReader struct{ io.Reader }

// node connects to the agent's own HTTP handler.
func (s *Server) node() (net.Conn, error) {
	if s.c.Node == nil {
		return nil, fault.As(fault.ErrUnavailable, errors.New("the agent listens on no port; name one of the node's own as NODE:PORT"))
	}
	mine, theirs := net.Pipe()
	l := &oneConn{conn: mine, done: make(chan struct{})}
	server := &http.Server{Handler: s.c.Node, ReadHeaderTimeout: dialTimeout}
	server.SetKeepAlivesEnabled(false)
	// Ends with the connection, which its caller closes.
	go func() { _ = server.Serve(l) }()
	return theirs, nil
}

// oneConn is a listener for a connection that is there already.
type oneConn struct {
	mu   sync.Mutex
	conn net.Conn
	once sync.Once
	done chan struct{}
}

// Accept implements net.Listener.
func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return &noticedConn{Conn: conn, closed: l.finish}, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneConn) finish() { l.once.Do(func() { close(l.done) }) }

// Close implements net.Listener.
func (l *oneConn) Close() error { l.finish(); return nil }

// Addr implements net.Listener.
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "node-stream", Net: "unix"} }

// noticedConn tells when it is closed.
type noticedConn struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (c *noticedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}
