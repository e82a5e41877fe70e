// Package serviceaccount owns the tokens of service accounts: signing them (Issuer), judging them (Validator) and publishing
// the keys that verify them (Discovery). The Secrets that hold legacy tokens are kept by controller/serviceaccount.
//
// A token is a JWT signed with ES256, ES384, ES512 or RS256. Claims are those of Kubernetes, so that other programs can read
// them:
//
//	iss, sub, aud, exp, nbf, iat, jti
//	kubernetes.io: { namespace, serviceaccount{name,uid}, pod{name,uid}, node{name,uid}, secret{name,uid}, warnafter }
//
// Tokens in Secrets carry the flat claims of the legacy issuer "kubernetes/serviceaccount" and never expire; they end when
// the Secret goes.
//
// Invariant: a token is good only while the objects it is bound to exist with the same UID.
package serviceaccount

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	apiserviceaccount "k8s.io/apiserver/pkg/authentication/serviceaccount"
)

// LegacyIssuer is the issuer of tokens in Secrets.
const LegacyIssuer = "kubernetes/serviceaccount"

const (
	// warnOnlySeconds is the lifetime that the automatic token volume asks for. Clients too old to read the file again would
	// lose access after it, so such a token lives a year and says from when on it should have been replaced.
	warnOnlySeconds = 60*60 + 7
	extendedSeconds = 365 * 24 * 60 * 60

	// deletionLeeway lets a token outlive the deletion of what it is bound to, so that a terminating pod can finish.
	deletionLeeway = time.Minute
)

// object is a reference inside a token.
type object struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
}

// bound is the claim "kubernetes.io".
type bound struct {
	Namespace      string           `json:"namespace,omitempty"`
	ServiceAccount object           `json:"serviceaccount"`
	Pod            *object          `json:"pod,omitempty"`
	Secret         *object          `json:"secret,omitempty"`
	Node           *object          `json:"node,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type boundClaims struct {
	Kubernetes bound `json:"kubernetes.io"`
}

// audienceClaim is always a list, also of one: programs that read tokens of Kubernetes expect that.
type audienceClaim struct {
	Audience []string `json:"aud"`
}

type legacyClaims struct {
	Namespace          string `json:"kubernetes.io/serviceaccount/namespace,omitempty"`
	SecretName         string `json:"kubernetes.io/serviceaccount/secret.name,omitempty"`
	ServiceAccountName string `json:"kubernetes.io/serviceaccount/service-account.name,omitempty"`
	ServiceAccountUID  string `json:"kubernetes.io/serviceaccount/service-account.uid,omitempty"`
}

// Binding is what a token is asked for.
type Binding struct {
	ServiceAccount *corev1.ServiceAccount
	// At most one of Pod, Secret and Node (without Pod) binds the token's life. Node beside Pod is only told.
	Pod    *corev1.Pod
	Secret *corev1.Secret
	Node   *corev1.Node
	// Audiences must not be empty.
	Audiences []string
	// Seconds is the lifetime asked for.
	Seconds int64
	// Extend lets a token of the automatic volume live longer, see warnOnlySeconds. Set it for the API's own audience only.
	Extend bool
}

// claims turns a request into claims, all but the audience.
func (b Binding) claims(issuer string, now time.Time) (jwt.Claims, boundClaims) {
	sa := b.ServiceAccount
	private := boundClaims{Kubernetes: bound{
		Namespace:      sa.Namespace,
		ServiceAccount: object{Name: sa.Name, UID: string(sa.UID)},
	}}
	seconds := b.Seconds
	if b.Extend && b.Pod != nil && seconds == warnOnlySeconds {
		private.Kubernetes.WarnAfter = jwt.NewNumericDate(now.Add(time.Duration(seconds) * time.Second))
		seconds = extendedSeconds
	}
	switch {
	case b.Pod != nil:
		private.Kubernetes.Pod = &object{Name: b.Pod.Name, UID: string(b.Pod.UID)}
		if b.Node != nil {
			private.Kubernetes.Node = &object{Name: b.Node.Name, UID: string(b.Node.UID)}
		} else if b.Pod.Spec.NodeName != "" {
			private.Kubernetes.Node = &object{Name: b.Pod.Spec.NodeName}
		}
	case b.Secret != nil:
		private.Kubernetes.Secret = &object{Name: b.Secret.Name, UID: string(b.Secret.UID)}
	case b.Node != nil:
		private.Kubernetes.Node = &object{Name: b.Node.Name, UID: string(b.Node.UID)}
	}
	return jwt.Claims{
		Issuer:    issuer,
		Subject:   apiserviceaccount.MakeUsername(sa.Namespace, sa.Name),
		IssuedAt:  jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now),
		Expiry:    jwt.NewNumericDate(now.Add(time.Duration(seconds) * time.Second)),
		ID:        string(uuid.NewUUID()),
	}, private
}

// issuerOf reads the "iss" of a token without verifying anything. ok is false when text is no JWT at all.
func issuerOf(text string) (issuer string, ok bool) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return "", false
	}
	payload, err := decodeSegment(parts[1])
	if err != nil {
		return "", false
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", false
	}
	return claims.Issuer, true
}

// check compares a reference in a token with the object of that name.
func (o object) check(kind, uid string) error {
	if o.UID != "" && o.UID != uid {
		return fmt.Errorf("%s UID (%s) does not match claim (%s)", kind, uid, o.UID)
	}
	return nil
}
