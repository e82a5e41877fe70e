package identity

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

// enrollTimeout bounds joining and renewing: a person waits for the first, a session for the second.
const enrollTimeout = 30 * time.Second

// Errors of joining that a person can act upon; all are fault.ErrInvalid.
var (
	ErrWrongToken  = errors.New("the token was refused")
	ErrWrongCAHash = errors.New("the server is not of the cluster that was meant")
)

var (
	tokenForm = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	hashForm  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// JoinConfig says what to join. All fields are required but Now and Dial.
type JoinConfig struct {
	Server   string // host:port of the gateway
	Token    string // "abcdef.0123456789abcdef"
	CAHash   string // "sha256:HEX" of the CA's SubjectPublicKeyInfo
	NodeName string
	Dir      string // where the identity will live
	Log      *slog.Logger
	Now      func() time.Time
	// Dial replaces the way to reach the server, for a proxy or a test.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Join makes a key, proves with the token that the node may join, and saves the
// certificate. An identity that is there already is replaced only by a successful answer.
func Join(ctx context.Context, c JoinConfig) (*Identity, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if !tokenForm.MatchString(c.Token) {
		return nil, fault.As(fault.ErrInvalid, fmt.Errorf("%w: it must look like abcdef.0123456789abcdef", ErrWrongToken))
	}
	if !hashForm.MatchString(c.CAHash) {
		return nil, fault.Invalid("the CA hash must look like sha256: and 64 hexadecimal digits; `coracle-controlplane token create` prints it")
	}
	host, _, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fault.As(fault.ErrInvalid, fmt.Errorf("server address %q must be host:port: %w", c.Server, err))
	}
	csr, keyPEM, err := newRequest(c.NodeName)
	if err != nil {
		return nil, err
	}
	var refused atomic.Pointer[error] // why the handshake was broken off; gRPC tells only that it was
	conn, err := c.connect(&tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: host,
		// There is no CA to verify against yet: the hash takes its place.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			err := verifyPinned(state, c.CAHash, host, c.Now())
			if err != nil {
				refused.Store(&err)
			}
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // its one call has been answered
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	answer, err := nodev1.NewEnrollmentClient(conn).Join(ctx, &nodev1.JoinRequest{Token: c.Token, NodeName: c.NodeName, Csr: csr})
	if err != nil {
		if why := refused.Load(); why != nil {
			return nil, fault.As(fault.ErrInvalid, fmt.Errorf("join %s: %w", c.Server, *why))
		}
		return nil, fmt.Errorf("join %s: %w", c.Server, explain(err))
	}
	i := &Identity{dir: c.Dir, log: c.Log}
	if err := i.save(c.NodeName, keyPEM, answer.GetCertificate(), answer.GetCa()); err != nil {
		return nil, fmt.Errorf("join %s: %w", c.Server, err)
	}
	return i, nil
}

func (c JoinConfig) connect(tlsConfig *tls.Config) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)), grpc.WithDisableServiceConfig()}
	if c.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(c.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Server, opts...)
	if err != nil {
		return nil, fmt.Errorf("prepare connection to %s: %w", c.Server, err)
	}
	return conn, nil
}

// verifyPinned accepts a server whose certificate leads to a CA with the given hash.
func verifyPinned(state tls.ConnectionState, want, host string, now time.Time) error {
	var seen []string
	for _, c := range state.PeerCertificates {
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		hash := "sha256:" + hex.EncodeToString(sum[:])
		if !c.IsCA {
			continue
		}
		if hash != want {
			seen = append(seen, hash)
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(c)
		return verifyServer(state, roots, host, now)
	}
	if len(seen) == 0 {
		return fmt.Errorf("%w: %s showed no CA certificate; is this the gateway's port?", ErrWrongCAHash, host)
	}
	slices.Sort(seen)
	return fmt.Errorf("%w: the CA of %s has the hash %s, expected %s; the token was not sent", ErrWrongCAHash, host, strings.Join(seen, ", "), want)
}

// explain turns an answer into one of the error classes, in words for the person at the keyboard.
func explain(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unauthenticated:
		return fault.As(fault.ErrInvalid, fmt.Errorf("%w: %s; make a new one with: coracle-controlplane token create", ErrWrongToken, s.Message()))
	case codes.AlreadyExists:
		return fault.As(fault.ErrConflict, errors.New(s.Message()))
	case codes.InvalidArgument, codes.PermissionDenied, codes.FailedPrecondition:
		return fault.As(fault.ErrInvalid, errors.New(s.Message()))
	case codes.ResourceExhausted:
		return fault.As(fault.ErrUnavailable, errors.New(s.Message()))
	default:
		return fault.As(fault.ErrUnavailable, fmt.Errorf("cannot reach the server: %s", s.Message()))
	}
}
