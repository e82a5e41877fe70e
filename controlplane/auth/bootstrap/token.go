// Package bootstrap owns bootstrap tokens: their text form ID.SECRET, their life as Secrets of type
// bootstrap.kubernetes.io/token in kube-system, and the judgement whether one opens the door now. Parsing and judging are
// pure; Store talks to the API.
//
// A token is used by a machine that has no certificate yet: by the agent for enrolment at the gateway, by others for the
// REST API as user system:bootstrap:ID.
package bootstrap

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The format is that of Kubernetes (bootstrap-token authentication): these names and values are read by other programs.
const (
	SecretNamePrefix = "bootstrap-token-"
	UserPrefix       = "system:bootstrap:"
	DefaultGroup     = "system:bootstrappers"

	keyID          = "token-id"
	keySecret      = "token-secret"
	keyExpiration  = "expiration"
	keyDescription = "description"
	keyGroups      = "auth-extra-groups"
	keyAuth        = "usage-bootstrap-authentication"
	keySigning     = "usage-bootstrap-signing"

	idLength     = 6
	secretLength = 16
	alphabet     = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// ErrInvalid is why a token does not open the door; the text behind it says more and may be logged, but a stranger gets only
// this.
var ErrInvalid = errors.New("bootstrap token is not valid")

var (
	tokenForm = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	idForm    = regexp.MustCompile(`^[a-z0-9]{6}$`)
	groupForm = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// Token is ID.SECRET. The ID may be shown, the secret not.
type Token struct {
	ID     string
	Secret string
}

// Parse reads ID.SECRET. ok is false when text has another form, which for a bearer token means: not ours.
func Parse(text string) (token Token, ok bool) {
	m := tokenForm.FindStringSubmatch(text)
	if m == nil {
		return Token{}, false
	}
	return Token{ID: m[1], Secret: m[2]}, true
}

// ParseID reads an ID or a whole token and returns the ID.
func ParseID(text string) (string, error) {
	if token, ok := Parse(text); ok {
		return token.ID, nil
	}
	if !idForm.MatchString(text) {
		return "", fmt.Errorf("%q is neither a token ID (6 characters a-z 0-9) nor a whole token (ID.SECRET)", text)
	}
	return text, nil
}

// New draws a token from the system's randomness.
func New() (Token, error) {
	id, err := draw(idLength)
	if err != nil {
		return Token{}, err
	}
	secret, err := draw(secretLength)
	if err != nil {
		return Token{}, err
	}
	return Token{ID: id, Secret: secret}, nil
}

func draw(n int) (string, error) {
	var b strings.Builder
	for range n {
		i, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("draw bootstrap token: %w", err)
		}
		b.WriteByte(alphabet[i.Int64()])
	}
	return b.String(), nil
}

// Text is ID.SECRET. Token has no String method on purpose: logs must not get the secret by accident.
func (t Token) Text() string { return t.ID + "." + t.Secret }

// Secret is the API object for token. A zero expires means for ever.
func Secret(token Token, expires time.Time, description string) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: SecretNamePrefix + token.ID},
		Type:       corev1.SecretTypeBootstrapToken,
		Data: map[string][]byte{
			keyID:      []byte(token.ID),
			keySecret:  []byte(token.Secret),
			keyAuth:    []byte("true"),
			keySigning: []byte("true"),
		},
	}
	if !expires.IsZero() {
		s.Data[keyExpiration] = []byte(expires.UTC().Format(time.RFC3339))
	}
	if description != "" {
		s.Data[keyDescription] = []byte(description)
	}
	return s
}

// Info is what may be shown of a token.
type Info struct {
	ID          string
	Description string
	Expires     time.Time // zero: for ever
	Usages      []string
	Groups      []string // beyond DefaultGroup
	Problem     string   // why it can never be used, empty when fine
}

// Describe reads a Secret for showing. It never fails: what is wrong is in Problem.
func Describe(s *corev1.Secret) Info {
	info := Info{ID: strings.TrimPrefix(s.Name, SecretNamePrefix), Description: string(s.Data[keyDescription])}
	if string(s.Data[keyAuth]) == "true" {
		info.Usages = append(info.Usages, "authentication")
	}
	if string(s.Data[keySigning]) == "true" {
		info.Usages = append(info.Usages, "signing")
	}
	var err error
	if info.Groups, err = groups(s); err != nil {
		info.Problem = err.Error()
	}
	if info.Expires, err = expiration(s); err != nil {
		info.Problem = err.Error()
	}
	if string(s.Data[keyID]) != info.ID {
		info.Problem = "its token-id differs from its name"
	}
	return info
}

// Check says whether token, whose Secret is s, opens the door at now. It returns the groups beyond DefaultGroup, sorted, or
// an error that wraps ErrInvalid.
func Check(s *corev1.Secret, token Token, now time.Time) ([]string, error) {
	refuse := func(reason string) ([]string, error) {
		return nil, fmt.Errorf("%w: token %s: %s", ErrInvalid, token.ID, reason)
	}
	switch {
	case s.DeletionTimestamp != nil:
		return refuse("it is being deleted")
	case s.Type != corev1.SecretTypeBootstrapToken:
		return refuse(fmt.Sprintf("the secret's type is %q", s.Type))
	case subtle.ConstantTimeCompare(s.Data[keySecret], []byte(token.Secret)) != 1 || len(s.Data[keySecret]) == 0:
		return refuse("the secret part is wrong")
	case string(s.Data[keyID]) != token.ID:
		return refuse("its token-id differs from its name")
	case string(s.Data[keyAuth]) != "true":
		return refuse("it is not for authentication")
	}
	expires, err := expiration(s)
	if err != nil {
		return refuse(err.Error())
	}
	if !expires.IsZero() && !now.Before(expires) {
		return refuse("it expired at " + expires.UTC().Format(time.RFC3339))
	}
	extra, err := groups(s)
	if err != nil {
		return refuse(err.Error())
	}
	return extra, nil
}

func expiration(s *corev1.Secret) (time.Time, error) {
	text := string(s.Data[keyExpiration])
	if text == "" {
		return time.Time{}, nil
	}
	expires, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("its expiration %q is not a time in RFC 3339 form", text)
	}
	return expires, nil
}

func groups(s *corev1.Secret) ([]string, error) {
	seen := map[string]bool{}
	for _, group := range strings.Split(string(s.Data[keyGroups]), ",") {
		group = strings.TrimSpace(group)
		if group == "" {
			continue
		}
		if !groupForm.MatchString(group) {
			return nil, fmt.Errorf("its group %q does not match %s", group, groupForm)
		}
		seen[group] = true
	}
	var list []string
	for group := range seen {
		list = append(list, group)
	}
	sort.Strings(list)
	return list, nil
}
