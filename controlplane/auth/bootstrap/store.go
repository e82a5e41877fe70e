package bootstrap

import (
	"context"
	"fmt"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

// Store keeps tokens as Secrets in kube-system. Safe for concurrent use.
type Store struct {
	Client kubernetes.Interface
}

// Create draws a token and stores it. ttl of zero means for ever.
func (s Store) Create(ctx context.Context, ttl time.Duration, description string, now time.Time) (Token, error) {
	token, err := New()
	if err != nil {
		return Token{}, err
	}
	var expires time.Time
	if ttl > 0 {
		expires = now.Add(ttl)
	}
	_, err = s.Client.CoreV1().Secrets(metav1.NamespaceSystem).Create(ctx, Secret(token, expires, description), metav1.CreateOptions{})
	if err != nil {
		return Token{}, fmt.Errorf("store bootstrap token: %w", err)
	}
	return token, nil
}

// List returns all tokens, those that expire first at the head.
func (s Store) List(ctx context.Context) ([]Info, error) {
	list, err := s.Client.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("type", string(corev1.SecretTypeBootstrapToken)).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("list bootstrap tokens: %w", err)
	}
	var infos []Info
	for i := range list.Items {
		if list.Items[i].Type == corev1.SecretTypeBootstrapToken {
			infos = append(infos, Describe(&list.Items[i]))
		}
	}
	sort.SliceStable(infos, func(i, j int) bool {
		a, b := infos[i], infos[j]
		if !a.Expires.Equal(b.Expires) {
			return !a.Expires.IsZero() && (b.Expires.IsZero() || a.Expires.Before(b.Expires))
		}
		return a.ID < b.ID
	})
	return infos, nil
}

// Delete removes a token. A token that does not exist is an error, because the person meant a certain one.
func (s Store) Delete(ctx context.Context, id string) error {
	err := s.Client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, SecretNamePrefix+id, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("delete bootstrap token: there is no token %q", id)
	}
	if err != nil {
		return fmt.Errorf("delete bootstrap token %s: %w", id, err)
	}
	return nil
}

// Check reads the Secret of token and judges it. An error that wraps ErrInvalid is final; another means that the API could
// not answer.
func (s Store) Check(ctx context.Context, token Token, now time.Time) (groups []string, err error) {
	secret, err := s.Client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, SecretNamePrefix+token.ID, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%w: there is no token %s", ErrInvalid, token.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read bootstrap token %s: %w", token.ID, err)
	}
	return Check(secret, token, now)
}
