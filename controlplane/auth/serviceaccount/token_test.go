package serviceaccount

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/authenticator"
)

const issuerName = "https://kubernetes.default.svc.cluster.local"

var day = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// cluster is an Objects over maps; err, where set, is what every read gives.
type cluster struct {
	accounts map[string]*corev1.ServiceAccount
	pods     map[string]*corev1.Pod
	secrets  map[string]*corev1.Secret
	nodes    map[string]*corev1.Node
	err      error
}

func find[T any](c *cluster, from map[string]*T, kind, key string) (*T, error) {
	if c.err != nil {
		return nil, c.err
	}
	if o, ok := from[key]; ok {
		return o, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource(kind), key)
}

func (c *cluster) ServiceAccount(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return find(c, c.accounts, "serviceaccounts", namespace+"/"+name)
}
func (c *cluster) Pod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	return find(c, c.pods, "pods", namespace+"/"+name)
}
func (c *cluster) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	return find(c, c.secrets, "secrets", namespace+"/"+name)
}
func (c *cluster) Node(_ context.Context, name string) (*corev1.Node, error) {
	return find(c, c.nodes, "nodes", name)
}

func at(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name + "-uid")}
}

// stage is an issuer, a validator and a world that both look at.
type stage struct {
	now       time.Time
	cluster   *cluster
	issuer    *Issuer
	validator *Validator
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newStage(t testing.TB, keys ...crypto.Signer) *stage {
	t.Helper()
	if len(keys) == 0 {
		keys = []crypto.Signer{newKey(t)}
	}
	k, err := NewKeys(keys)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{now: day, cluster: &cluster{
		accounts: map[string]*corev1.ServiceAccount{"ns/robot": {ObjectMeta: at("ns", "robot")}},
		pods:     map[string]*corev1.Pod{"ns/web": {ObjectMeta: at("ns", "web"), Spec: corev1.PodSpec{NodeName: "n1", ServiceAccountName: "robot"}}},
		secrets:  map[string]*corev1.Secret{"ns/key": {ObjectMeta: at("ns", "key"), Data: map[string][]byte{}}},
		nodes:    map[string]*corev1.Node{"n1": {ObjectMeta: at("", "n1")}},
	}}
	s.issuer = &Issuer{Name: issuerName, Keys: k}
	s.validator = &Validator{Issuer: issuerName, Keys: k, Objects: s.cluster, Audiences: authenticator.Audiences{issuerName}, Now: func() time.Time { return s.now }}
	return s
}

func (s *stage) binding() Binding {
	return Binding{ServiceAccount: s.cluster.accounts["ns/robot"], Audiences: []string{issuerName}, Seconds: 3600}
}

func (s *stage) sign(t testing.TB, change func(*Binding)) string {
	t.Helper()
	b := s.binding()
	if change != nil {
		change(&b)
	}
	issued, err := s.issuer.Sign(b, s.now)
	if err != nil {
		t.Fatal(err)
	}
	return issued.Token
}

func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	delete(claims, "jti")
	return claims
}

func TestClaimsAreThoseOfKubernetes(t *testing.T) {
	s := newStage(t)
	token := s.sign(t, func(b *Binding) {
		b.Pod, b.Node, b.Seconds, b.Extend = s.cluster.pods["ns/web"], s.cluster.nodes["n1"], 3607, true
	})
	got, err := json.MarshalIndent(claimsOf(t, token), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "aud": [
  "https://kubernetes.default.svc.cluster.local"
 ],
 "exp": 1826798400,
 "iat": 1795262400,
 "iss": "https://kubernetes.default.svc.cluster.local",
 "kubernetes.io": {
  "namespace": "ns",
  "node": {
   "name": "n1",
   "uid": "n1-uid"
  },
  "pod": {
   "name": "web",
   "uid": "web-uid"
  },
  "serviceaccount": {
   "name": "robot",
   "uid": "robot-uid"
  },
  "warnafter": 1795266007
 },
 "nbf": 1795262400,
 "sub": "system:serviceaccount:ns:robot"
}`
	if string(got) != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

func TestOnlyTheAutomaticVolumeLivesLonger(t *testing.T) {
	s := newStage(t)
	pod := s.cluster.pods["ns/web"]
	for name, c := range map[string]struct {
		change func(*Binding)
		want   time.Duration
	}{
		"automatic volume":  {func(b *Binding) { b.Pod, b.Seconds, b.Extend = pod, 3607, true }, 365 * 24 * time.Hour},
		"other audience":    {func(b *Binding) { b.Pod, b.Seconds = pod, 3607 }, 3607 * time.Second},
		"no pod":            {func(b *Binding) { b.Seconds, b.Extend = 3607, true }, 3607 * time.Second},
		"another life time": {func(b *Binding) { b.Pod, b.Seconds, b.Extend = pod, 3600, true }, time.Hour},
	} {
		claims := claimsOf(t, s.sign(t, c.change))
		if got := time.Unix(int64(claims["exp"].(float64)), 0).Sub(day); got != c.want {
			t.Errorf("%s: lives %s, want %s", name, got, c.want)
		}
	}
}

func TestJudgement(t *testing.T) {
	gone := func(minutes int) *metav1.Time {
		return &metav1.Time{Time: day.Add(-time.Duration(minutes) * time.Minute)}
	}
	for name, c := range map[string]struct {
		bind  func(*stage, *Binding)
		after func(*stage)
		bad   string
	}{
		"good":            {},
		"at the last":     {after: func(s *stage) { s.now = day.Add(time.Hour) }},
		"expired":         {after: func(s *stage) { s.now = day.Add(time.Hour + time.Second) }, bad: "expired"},
		"not yet":         {after: func(s *stage) { s.now = day.Add(-time.Minute) }, bad: "not valid yet"},
		"account deleted": {after: func(s *stage) { delete(s.cluster.accounts, "ns/robot") }, bad: "service account robot has been deleted"},
		"account anew": {after: func(s *stage) {
			s.cluster.accounts["ns/robot"] = &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot", UID: "new"}}
		}, bad: "does not match claim"},
		"other audience":   {bind: func(_ *stage, b *Binding) { b.Audiences = []string{"vault"} }, bad: "invalid for the target audiences"},
		"API unreachable":  {after: func(s *stage) { s.cluster.err = errors.New("no route") }, bad: "no route"},
		"pod":              {bind: func(s *stage, b *Binding) { b.Pod = s.cluster.pods["ns/web"] }},
		"pod deleted":      {bind: func(s *stage, b *Binding) { b.Pod = s.cluster.pods["ns/web"] }, after: func(s *stage) { delete(s.cluster.pods, "ns/web") }, bad: "pod web has been deleted"},
		"pod terminating":  {bind: func(s *stage, b *Binding) { b.Pod = s.cluster.pods["ns/web"] }, after: func(s *stage) { s.cluster.pods["ns/web"].DeletionTimestamp = gone(0) }},
		"pod long overdue": {bind: func(s *stage, b *Binding) { b.Pod = s.cluster.pods["ns/web"] }, after: func(s *stage) { s.cluster.pods["ns/web"].DeletionTimestamp = gone(2) }, bad: "deleted"},
		"pod anew":         {bind: func(s *stage, b *Binding) { b.Pod = s.cluster.pods["ns/web"] }, after: func(s *stage) { s.cluster.pods["ns/web"] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "new"}} }, bad: "does not match claim"},
		"pod's node gone":  {bind: func(s *stage, b *Binding) { b.Pod, b.Node = s.cluster.pods["ns/web"], s.cluster.nodes["n1"] }, after: func(s *stage) { delete(s.cluster.nodes, "n1") }},
		"secret":           {bind: func(s *stage, b *Binding) { b.Secret = s.cluster.secrets["ns/key"] }},
		"secret deleted":   {bind: func(s *stage, b *Binding) { b.Secret = s.cluster.secrets["ns/key"] }, after: func(s *stage) { delete(s.cluster.secrets, "ns/key") }, bad: "secret key has been deleted"},
		"node":             {bind: func(s *stage, b *Binding) { b.Node = s.cluster.nodes["n1"] }},
		"node deleted":     {bind: func(s *stage, b *Binding) { b.Node = s.cluster.nodes["n1"] }, after: func(s *stage) { delete(s.cluster.nodes, "n1") }, bad: "node n1 has been deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			token := s.sign(t, func(b *Binding) {
				if c.bind != nil {
					c.bind(s, b)
				}
			})
			if c.after != nil {
				c.after(s)
			}
			response, ok, err := s.validator.AuthenticateToken(t.Context(), token)
			if c.bad != "" {
				if ok || err == nil || !strings.Contains(err.Error(), c.bad) {
					t.Fatalf("%v, %v; want it to say %q", ok, err, c.bad)
				}
				return
			}
			if err != nil || !ok || response.User.GetName() != "system:serviceaccount:ns:robot" || response.User.GetUID() != "robot-uid" ||
				!slices.Equal(response.User.GetGroups(), []string{"system:serviceaccounts", "system:serviceaccounts:ns"}) {
				t.Fatalf("%+v, %v, %v", response, ok, err)
			}
		})
	}
}

func TestForgeries(t *testing.T) {
	s := newStage(t)
	good := s.sign(t, nil)
	parts := strings.Split(good, ".")
	encode := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	claims := claimsOf(t, good)
	claims["sub"] = "system:serviceaccount:kube-system:admin"
	stranger := newStage(t)
	swapped := claimsOf(t, good)
	swapped["sub"] = "system:serviceaccount:ns:other"
	signed, err := jwt.Signed(s.issuer.Keys.signer).Claims(swapped).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	mac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte("0123456789abcdef0123456789abcdef")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	symmetric, err := jwt.Signed(mac).Claims(claimsOf(t, good)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"claims changed":        parts[0] + "." + encode(claims) + "." + parts[2],
		"no signature":          parts[0] + "." + parts[1] + ".",
		"algorithm none":        encode(map[string]string{"alg": "none"}) + "." + parts[1] + ".",
		"symmetric":             symmetric,
		"another cluster's":     stranger.sign(t, nil),
		"subject not the claim": signed,
	} {
		if response, ok, err := s.validator.AuthenticateToken(t.Context(), token); ok || err == nil {
			t.Errorf("%s: %+v, %v", name, response, err)
		}
	}
	for name, token := range map[string]string{
		"bootstrap token": "abcdef.0123456789abcdef", "empty": "", "dots": "..", "other issuer's": func() string {
			foreign := claimsOf(t, good)
			foreign["iss"] = "https://accounts.example.com"
			text, err := jwt.Signed(s.issuer.Keys.signer).Claims(foreign).Serialize()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}(),
	} {
		if _, ok, err := s.validator.AuthenticateToken(t.Context(), token); ok || err != nil {
			t.Errorf("%s: %v, %v; want it left to others", name, ok, err)
		}
	}
}

func TestAudiences(t *testing.T) {
	s := newStage(t)
	token := s.sign(t, func(b *Binding) { b.Audiences = []string{"vault", "other"} })
	ctx := authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault", issuerName})
	response, ok, err := s.validator.AuthenticateToken(ctx, token)
	if err != nil || !ok || !slices.Equal(response.Audiences, authenticator.Audiences{"vault"}) {
		t.Fatalf("%+v, %v, %v", response, ok, err)
	}
}

func TestOldKeysVerifyAndTheFirstSigns(t *testing.T) {
	old, fresh := newKey(t), newKey(t)
	before := newStage(t, old).sign(t, nil)
	s := newStage(t, fresh, old)
	if _, ok, err := s.validator.AuthenticateToken(t.Context(), before); !ok || err != nil {
		t.Fatalf("a token of the old key: %v", err)
	}
	after := s.sign(t, nil)
	if _, ok, _ := newStage(t, old).validator.AuthenticateToken(t.Context(), after); ok {
		t.Fatal("the old key verified a token of the new one")
	}
}

func TestRSA(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, key)
	if _, ok, err := s.validator.AuthenticateToken(t.Context(), s.sign(t, nil)); !ok || err != nil {
		t.Fatalf("%v", err)
	}
}

func TestLegacy(t *testing.T) {
	s := newStage(t)
	secret := s.cluster.secrets["ns/key"]
	token, err := s.issuer.SignLegacy(s.cluster.accounts["ns/robot"], secret)
	if err != nil {
		t.Fatal(err)
	}
	judge := func() error {
		_, ok, err := s.validator.AuthenticateToken(t.Context(), token)
		if err == nil && !ok {
			t.Fatal("not recognised")
		}
		return err
	}
	if err := judge(); err == nil {
		t.Fatal("good before it is in the secret")
	}
	secret.Data["token"] = []byte(token)
	s.now = day.Add(20 * 365 * 24 * time.Hour)
	if err := judge(); err != nil {
		t.Fatal(err)
	}
	secret.Labels = map[string]string{invalidSince: "2026-01-01"}
	if err := judge(); err == nil || !strings.Contains(err.Error(), "marked invalid") {
		t.Fatal(err)
	}
	delete(s.cluster.secrets, "ns/key")
	if err := judge(); err == nil || !strings.Contains(err.Error(), "deleted") {
		t.Fatal(err)
	}
}

func TestDiscoveryVerifiesTokens(t *testing.T) {
	s := newStage(t)
	d, err := NewDiscovery(issuerName, "https://192.0.2.1:6443"+JWKSPath, s.issuer.Keys)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	d.Install(mux)
	get := func(path string, into any) {
		t.Helper()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d", path, w.Code)
		}
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	var c configuration
	get(ConfigurationPath, &c)
	if c.Issuer != issuerName || c.JWKSURI != "https://192.0.2.1:6443/openid/v1/jwks" || !slices.Equal(c.Algorithms, []string{"ES256"}) {
		t.Fatalf("%+v", c)
	}
	var set jose.JSONWebKeySet
	get(JWKSPath, &set)
	token, err := jwt.ParseSigned(s.sign(t, nil), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := token.Claims(set, &claims); err != nil || claims.Subject != "system:serviceaccount:ns:robot" {
		t.Fatalf("%+v, %v", claims, err)
	}
	if !set.Keys[0].IsPublic() {
		t.Fatal("a private key is published")
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, JWKSPath, nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Fatalf("POST: %d", w.Code)
	}
	if none, err := NewDiscovery("my-issuer", "", s.issuer.Keys); none != nil || err != nil {
		t.Fatalf("an issuer that is no URL: %v, %v", none, err)
	}
}

func FuzzAuthenticateToken(f *testing.F) {
	s := newStage(f)
	good := s.sign(f, nil)
	f.Add(good)
	f.Add("a.e30.c")
	f.Add(good[:len(good)-4])
	f.Fuzz(func(t *testing.T, token string) {
		_, ok, _ := s.validator.AuthenticateToken(context.Background(), token)
		if ok && token != good {
			// The signature is over the first two parts; they must be the signed ones.
			if i := strings.LastIndex(good, "."); !strings.HasPrefix(token, good[:i]) {
				t.Fatalf("accepted %q", token)
			}
		}
	})
}
