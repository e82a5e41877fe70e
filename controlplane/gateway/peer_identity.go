package gateway

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/validation"

	nodev1 "coracle/proto/node/v1"
)

const (
	nodePrefix = "system:node:"
	nodeGroup  = "system:nodes"
	// PeerUser is the common name of the certificates that gateways show one another.
	PeerUser = "coracle-gateway"

	// renewGrace is how long after its end a certificate may still be renewed by proof of its
	// key: a machine that lay in a depot for a season comes back by itself.
	renewGrace = 90 * 24 * time.Hour
)

type nodeContext struct{}

// caller is the node behind a call, as its certificate names it.
type caller struct {
	node string
	cert *x509.Certificate
}

func callerOf(ctx context.Context) caller { c, _ := ctx.Value(nodeContext{}).(caller); return c }

// authenticate decides who may call the method. Everything not named here is refused.
func (g *Gateway) authenticate(ctx context.Context, method string) (context.Context, error) {
	switch method {
	case nodev1.Enrollment_Join_FullMethodName:
		return ctx, nil
	case nodev1.Enrollment_Renew_FullMethodName:
		c, err := g.node(ctx, renewGrace)
		return context.WithValue(ctx, nodeContext{}, c), err
	case nodev1.Node_Session_FullMethodName, nodev1.Node_Stream_FullMethodName, nodev1.Node_Token_FullMethodName:
		c, err := g.node(ctx, 0)
		return context.WithValue(ctx, nodeContext{}, c), err
	case nodev1.Peer_Stream_FullMethodName:
		return ctx, g.peer(ctx)
	}
	return ctx, status.Errorf(codes.PermissionDenied, "%s is not for nodes", method)
}

// node returns the node whose certificate the caller has shown, if it ended at most grace ago.
func (g *Gateway) node(ctx context.Context, grace time.Duration) (caller, error) {
	cert, err := g.verify(ctx, grace, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return caller{}, err
	}
	name, ok := strings.CutPrefix(cert.Subject.CommonName, nodePrefix)
	if !ok || !slices.Contains(cert.Subject.Organization, nodeGroup) || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return caller{}, status.Errorf(codes.PermissionDenied, "the certificate is for %q, not for a node", cert.Subject.CommonName)
	}
	return caller{node: name, cert: cert}, nil
}

func (g *Gateway) peer(ctx context.Context) error {
	// Gateways show one another what they serve with.
	cert, err := g.verify(ctx, 0, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	if cert.Subject.CommonName != PeerUser {
		return status.Errorf(codes.PermissionDenied, "the certificate is for %q, not for a gateway", cert.Subject.CommonName)
	}
	return nil
}

func (g *Gateway) verify(ctx context.Context, grace time.Duration, usage x509.ExtKeyUsage) (*x509.Certificate, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no connection")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil, status.Error(codes.Unauthenticated, "no client certificate was shown: this node has not joined")
	}
	leaf, now := info.State.PeerCertificates[0], g.c.Now()
	at := now
	if now.After(leaf.NotAfter) && now.Sub(leaf.NotAfter) <= grace {
		at = leaf.NotAfter
	}
	between := x509.NewCertPool()
	for _, c := range info.State.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: g.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err == nil {
		return leaf, nil
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return nil, status.Errorf(codes.Unauthenticated, "the certificate of %q was not issued by this cluster", leaf.Subject.CommonName)
	}
	if now.After(leaf.NotAfter) {
		return nil, status.Errorf(codes.Unauthenticated, "the certificate of %q expired at %s", leaf.Subject.CommonName, leaf.NotAfter.Format(time.RFC3339))
	}
	return nil, status.Errorf(codes.Unauthenticated, "the certificate of %q is not valid: %s", leaf.Subject.CommonName, err)
}

func (g *Gateway) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := g.authenticate(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (g *Gateway) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := g.authenticate(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &knownStream{ServerStream: ss, ctx: ctx})
}

// knownStream carries the caller in its context.
type knownStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *knownStream) Context() context.Context { return s.ctx }

func parseCerts(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate: %w", err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return out, nil
}

func appendMissing(chain [][]byte, der []byte) [][]byte {
	for _, c := range chain {
		if bytes.Equal(c, der) {
			return chain
		}
	}
	return append(chain, der)
}
