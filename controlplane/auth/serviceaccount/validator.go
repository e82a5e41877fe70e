package serviceaccount

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	apiserviceaccount "k8s.io/apiserver/pkg/authentication/serviceaccount"
)

// Objects gives what tokens are bound to. Errors keep the API's NotFound; any other error means "cannot tell now".
type Objects interface {
	ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error)
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Node(ctx context.Context, name string) (*corev1.Node, error)
}

// Validator judges bearer tokens; it is an authenticator.Token. Safe for concurrent use.
type Validator struct {
	Issuer  string
	Keys    *Keys
	Objects Objects
	// Audiences is what a token must be for where the caller does not say: the API's own.
	Audiences authenticator.Audiences
	Now       func() time.Time
}

// credentialPrefix marks the token's ID in the user's extra.
const credentialPrefix = "JTI="

// AuthenticateToken says who bears the token. ok is false without error when the token is not of this issuer, so that others may
// try; an error means that it is ours but not good.
func (v *Validator) AuthenticateToken(ctx context.Context, text string) (*authenticator.Response, bool, error) {
	issuer, ok := issuerOf(text)
	if !ok || issuer != v.Issuer && issuer != LegacyIssuer {
		return nil, false, nil
	}
	var public jwt.Claims
	var private boundClaims
	var legacy legacyClaims
	if err := v.Keys.verify(text, &public, &private, &legacy); err != nil {
		return nil, false, err
	}
	audiences, err := v.matchAudiences(ctx, public, issuer)
	if err != nil {
		return nil, false, err
	}
	var info *apiserviceaccount.ServiceAccountInfo
	if issuer == LegacyIssuer {
		info, err = v.judgeLegacy(ctx, text, legacy)
	} else {
		info, err = v.judgeBound(ctx, public, private.Kubernetes)
	}
	if err != nil {
		return nil, false, err
	}
	if want := apiserviceaccount.MakeUsername(info.Namespace, info.Name); public.Subject != want {
		return nil, false, fmt.Errorf("sub claim %q is not %q", public.Subject, want)
	}
	return &authenticator.Response{User: info.UserInfo(), Audiences: audiences}, true, nil
}

// verify checks the signature against the key that the header names, or against all where it names none, and decodes.
func (k *Keys) verify(text string, into ...any) error {
	token, err := jwt.ParseSigned(text, k.algorithms())
	if err != nil {
		return fmt.Errorf("invalid bearer token: %w", err)
	}
	wanted := ""
	if len(token.Headers) > 0 {
		wanted = token.Headers[0].KeyID
	}
	var errs []error
	for _, key := range k.public {
		if wanted != "" && key.KeyID != wanted {
			continue
		}
		if token.Headers[0].Algorithm != key.Algorithm {
			continue
		}
		err := token.Claims(key.Key, into...)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return fmt.Errorf("invalid bearer token: no key %q", wanted)
	}
	if errors.Is(errors.Join(errs...), jose.ErrCryptoFailure) {
		return errors.New("invalid bearer token: signature verification failed")
	}
	return fmt.Errorf("invalid bearer token: %w", errors.Join(errs...))
}

func (v *Validator) matchAudiences(ctx context.Context, public jwt.Claims, issuer string) (authenticator.Audiences, error) {
	has := authenticator.Audiences(public.Audience)
	if len(has) == 0 && issuer == LegacyIssuer {
		has = v.Audiences // made before tokens had audiences
	}
	wants, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		wants = v.Audiences
	}
	both := has.Intersect(wants)
	if len(both) == 0 {
		return nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", has, wants)
	}
	return both, nil
}

func (v *Validator) judgeBound(ctx context.Context, public jwt.Claims, k bound) (*apiserviceaccount.ServiceAccountInfo, error) {
	now := v.Now()
	switch err := public.ValidateWithLeeway(jwt.Expected{Time: now}, 0); {
	case public.Expiry == nil:
		return nil, errors.New("service account token has no expiry")
	case errors.Is(err, jwt.ErrExpired):
		return nil, errors.New("service account token has expired")
	case err != nil:
		return nil, errors.New("service account token is not valid yet")
	}
	if err := v.checkAccount(ctx, k.Namespace, k.ServiceAccount, now); err != nil {
		return nil, err
	}
	info := &apiserviceaccount.ServiceAccountInfo{
		Namespace: k.Namespace, Name: k.ServiceAccount.Name, UID: k.ServiceAccount.UID,
	}
	if public.ID != "" {
		info.CredentialID = credentialPrefix + public.ID
	}
	if k.Secret != nil {
		secret, err := v.Objects.Secret(ctx, k.Namespace, k.Secret.Name)
		if err := live("secret", *k.Secret, secret, err, now); err != nil {
			return nil, err
		}
	}
	if k.Pod != nil {
		pod, err := v.Objects.Pod(ctx, k.Namespace, k.Pod.Name)
		if err := live("pod", *k.Pod, pod, err, now); err != nil {
			return nil, err
		}
		info.PodName, info.PodUID = k.Pod.Name, k.Pod.UID
	}
	if k.Node != nil {
		if k.Pod == nil {
			node, err := v.Objects.Node(ctx, k.Node.Name)
			if err := live("node", *k.Node, node, err, now); err != nil {
				return nil, err
			}
		}
		info.NodeName, info.NodeUID = k.Node.Name, k.Node.UID
	}
	return info, nil
}

func (v *Validator) checkAccount(ctx context.Context, namespace string, ref object, now time.Time) error {
	if namespace == "" || ref.Name == "" || ref.UID == "" {
		return errors.New("token names no service account")
	}
	sa, err := v.Objects.ServiceAccount(ctx, namespace, ref.Name)
	return live("service account", ref, sa, err, now)
}

// live says whether the object that a token is bound to is still the same one. err is that of reading it.
func live(kind string, ref object, have metav1.Object, err error, now time.Time) error {
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s %s has been deleted", kind, ref.Name)
	case err != nil:
		return fmt.Errorf("look up %s %s: %w", kind, ref.Name, err)
	}
	if deleted := have.GetDeletionTimestamp(); deleted != nil && deleted.Add(deletionLeeway).Before(now) {
		return fmt.Errorf("%s %s has been deleted", kind, ref.Name)
	}
	return ref.check(kind, string(have.GetUID()))
}

// invalidSince is the label by which an unused legacy token is switched off before its Secret is removed.
const invalidSince = "kubernetes.io/legacy-token-invalid-since"

func (v *Validator) judgeLegacy(ctx context.Context, text string, c legacyClaims) (*apiserviceaccount.ServiceAccountInfo, error) {
	if c.SecretName == "" {
		return nil, errors.New("legacy token names no secret")
	}
	now := v.Now()
	if err := v.checkAccount(ctx, c.Namespace, object{Name: c.ServiceAccountName, UID: c.ServiceAccountUID}, now); err != nil {
		return nil, err
	}
	secret, err := v.Objects.Secret(ctx, c.Namespace, c.SecretName)
	if err := live("secret", object{Name: c.SecretName}, secret, err, now); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(text)) != 1 {
		return nil, errors.New("token does not match server's copy")
	}
	if since := secret.Labels[invalidSince]; since != "" {
		return nil, fmt.Errorf("the token in secret %s has been marked invalid since %s", secret.Name, since)
	}
	return &apiserviceaccount.ServiceAccountInfo{Namespace: c.Namespace, Name: c.ServiceAccountName, UID: c.ServiceAccountUID}, nil
}

var _ authenticator.Token = (*Validator)(nil)
