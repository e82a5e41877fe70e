package gateway

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"coracle/controlplane/auth/bootstrap"
	nodev1 "coracle/proto/node/v1"
)

// enrollment implements nodev1.EnrollmentServer.
type enrollment struct {
	nodev1.UnimplementedEnrollmentServer
	g *Gateway
}

// Join implements nodev1.EnrollmentServer.
func (e *enrollment) Join(ctx context.Context, req *nodev1.JoinRequest) (*nodev1.JoinResponse, error) {
	g, from := e.g, address(ctx)
	if !g.limits.may(from, g.c.Now()) {
		return nil, status.Error(codes.ResourceExhausted, "too many refused attempts to join from this address; wait a minute")
	}
	name := req.GetNodeName()
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return nil, status.Errorf(codes.InvalidArgument, "node name %q: %s", name, strings.Join(problems, ", "))
	}
	why, err := g.checkToken(ctx, req.GetToken())
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "check token: %s", err)
	}
	if why != "" {
		g.limits.failed(from, g.c.Now())
		g.c.Log.Warn("join refused", "node", name, "from", from, "why", why)
		return nil, status.Error(codes.Unauthenticated, why)
	}
	if g.Alive(name) {
		return nil, status.Errorf(codes.AlreadyExists,
			"a node called %q is connected now: stop its agent first, or join under another name (--node-name)", name)
	}
	cert, err := g.c.Signer.SignNode(req.GetCsr(), name, g.c.Now())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "%s", err)
	}
	g.c.Log.Info("node joined", "node", name, "from", from)
	return &nodev1.JoinResponse{Certificate: cert, Ca: bytes.Clone(g.c.CAPEM)}, nil
}

// Renew implements nodev1.EnrollmentServer.
func (e *enrollment) Renew(ctx context.Context, req *nodev1.RenewRequest) (*nodev1.RenewResponse, error) {
	g, who := e.g, callerOf(ctx)
	if g.c.Now().After(who.cert.NotAfter) {
		// An old key of a node that was taken out of the cluster must not let it back in.
		_, err := g.world.node.Get(who.node)
		if apierrors.IsNotFound(err) {
			return nil, status.Errorf(codes.PermissionDenied, "the certificate of node %s expired at %s and the node is no longer part of the cluster",
				who.node, who.cert.NotAfter.Format(time.RFC3339))
		}
	}
	cert, err := g.c.Signer.SignNode(req.GetCsr(), who.node, g.c.Now())
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "%s", err)
	}
	g.c.Log.Info("node certificate renewed", "node", who.node, "before", who.cert.NotAfter.Format(time.RFC3339))
	return &nodev1.RenewResponse{Certificate: cert, Ca: bytes.Clone(g.c.CAPEM)}, nil
}

// checkToken looks a bootstrap token up among the Secrets of kube-system. why is empty for a
// good one and otherwise what the person at the node may be told: only one who knows the
// secret part hears more than that there is no such token.
func (g *Gateway) checkToken(ctx context.Context, text string) (why string, err error) {
	token, ok := bootstrap.Parse(text)
	if !ok {
		return "the token must look like abcdef.0123456789abcdef", nil
	}
	// Asked of the API itself: a token that was just made must work, one just deleted must not.
	secret, err := g.c.Client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, bootstrap.SecretNamePrefix+token.ID, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "no such token", nil
	}
	if err != nil {
		return "", err
	}
	if subtle.ConstantTimeCompare(secret.Data["token-secret"], []byte(token.Secret)) != 1 {
		return "no such token", nil
	}
	if _, refusal := bootstrap.Check(secret, token, g.c.Now()); refusal != nil {
		why = refusal.Error() // for the node, not an error of this call
	}
	return why, nil
}

func address(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host
}

// joinLimits slows down those who guess tokens: refused attempts cost, accepted ones do not,
// so that a rack of nodes behind one address joins at once.
type joinLimits struct {
	mu   sync.Mutex
	all  *rate.Limiter
	each map[string]*rate.Limiter
}

const (
	joinBurst    = 10   // refused attempts of one address
	joinAllBurst = 200  // refused attempts of all
	joinTracked  = 4096 // addresses remembered
)

func newJoinLimits() *joinLimits {
	return &joinLimits{all: rate.NewLimiter(rate.Every(time.Second), joinAllBurst), each: map[string]*rate.Limiter{}}
}

func (l *joinLimits) may(from string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.each[from]; r != nil && r.TokensAt(now) < 1 {
		return false
	}
	return l.all.TokensAt(now) >= 1
}

func (l *joinLimits) failed(from string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.each) >= joinTracked {
		for k, r := range l.each {
			if r.TokensAt(now) >= joinBurst-1 {
				delete(l.each, k)
			}
		}
	}
	r := l.each[from]
	if r == nil {
		r = rate.NewLimiter(rate.Every(6*time.Second), joinBurst)
		if len(l.each) < joinTracked {
			l.each[from] = r
		}
	}
	r.AllowN(now, 1)
	l.all.AllowN(now, 1)
}

// errNoForward says that no other gateway can be asked.
var errNoForward = errors.New("no other gateway holds the session")
