package serviceaccount

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	apiserviceaccount "k8s.io/apiserver/pkg/authentication/serviceaccount"
)

// Keys are the public keys that verify tokens, by key ID, and the one private key that signs. Immutable.
type Keys struct {
	signer jose.Signer
	public []jose.JSONWebKey // in the order given; the first belongs to signer
}

// NewKeys takes private keys: the first signs, all verify. At least one is needed.
func NewKeys(private []crypto.Signer) (*Keys, error) {
	if len(private) == 0 {
		return nil, errors.New("service-account keys: there is none")
	}
	k := &Keys{}
	for _, key := range private {
		id, err := keyID(key.Public())
		if err != nil {
			return nil, err
		}
		algorithm, err := algorithmOf(key.Public())
		if err != nil {
			return nil, err
		}
		k.public = append(k.public, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: string(algorithm), Use: "sig"})
	}
	first := k.public[0]
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.SignatureAlgorithm(first.Algorithm),
		Key:       jose.JSONWebKey{Key: private[0], KeyID: first.KeyID, Algorithm: first.Algorithm, Use: "sig"},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("service-account keys: %w", err)
	}
	k.signer = signer
	return k, nil
}

// keyID names a key by the hash of its SubjectPublicKeyInfo, as Kubernetes does.
func keyID(public crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("service-account keys: %w", err)
	}
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

func algorithmOf(public crypto.PublicKey) (jose.SignatureAlgorithm, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return jose.RS256, nil
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return jose.ES256, nil
		case 384:
			return jose.ES384, nil
		case 521:
			return jose.ES512, nil
		}
		return "", fmt.Errorf("service-account keys: curve %s is none of P-256, P-384, P-521", key.Curve.Params().Name)
	}
	return "", fmt.Errorf("service-account keys: a %T is neither RSA nor ECDSA", public)
}

// algorithms lists what tokens may be signed with, for the parser.
func (k *Keys) algorithms() []jose.SignatureAlgorithm {
	var list []jose.SignatureAlgorithm
	seen := map[string]bool{}
	for _, key := range k.public {
		if !seen[key.Algorithm] {
			seen[key.Algorithm] = true
			list = append(list, jose.SignatureAlgorithm(key.Algorithm))
		}
	}
	return list
}

// Issuer signs tokens. Safe for concurrent use.
type Issuer struct {
	Name string // the claim "iss"
	Keys *Keys
}

// Issued is a new token and what may be told of it.
type Issued struct {
	Token string
	// ID is the claim "jti", for audit.
	ID string
	// Expires is when a client should have replaced the token, which may be long before it stops working.
	Expires time.Time
}

// Sign makes a bound token.
func (i *Issuer) Sign(b Binding, now time.Time) (Issued, error) {
	public, private := b.claims(i.Name, now)
	token, err := jwt.Signed(i.Keys.signer).Claims(public).Claims(audienceClaim{b.Audiences}).Claims(private).Serialize()
	if err != nil {
		return Issued{}, fmt.Errorf("sign token of %s: %w", public.Subject, err)
	}
	return Issued{Token: token, ID: public.ID, Expires: now.Add(time.Duration(b.Seconds) * time.Second)}, nil
}

// SignLegacy makes the token of a Secret of type kubernetes.io/service-account-token. It does not expire.
func (i *Issuer) SignLegacy(sa *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
	subject := apiserviceaccount.MakeUsername(sa.Namespace, sa.Name)
	token, err := jwt.Signed(i.Keys.signer).
		Claims(jwt.Claims{Issuer: LegacyIssuer, Subject: subject}).
		Claims(legacyClaims{
			Namespace: sa.Namespace, SecretName: secret.Name, ServiceAccountName: sa.Name, ServiceAccountUID: string(sa.UID),
		}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign legacy token of %s: %w", subject, err)
	}
	return token, nil
}

func decodeSegment(segment string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(segment)
}
