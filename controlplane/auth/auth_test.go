package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"coracle/controlplane/auth/bootstrap"
	"coracle/controlplane/auth/serviceaccount"
)

var day = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// authority signs client certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert: cert, key: key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a authority) client(t *testing.T, name string, until time.Time, groups ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: groups},
		NotBefore: a.cert.NotBefore, NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newAuth(t *testing.T, ca authority, objects ...*corev1.Secret) (*Auth, *fake.Clientset, informers.SharedInformerFactory) {
	t.Helper()
	client := fake.NewClientset()
	for _, o := range objects {
		if _, err := client.CoreV1().Secrets(o.Namespace).Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	a, err := New(Config{
		ClientCA: ca.pem(), Keys: []crypto.Signer{ca.key}, Issuer: "https://kubernetes.default.svc.cluster.local",
		APIServerURL: "https://192.0.2.1:6443", Client: client, Informers: factory,
		Now: func() time.Time { return day }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, client, factory
}

func TestAuthenticator(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	token := bootstrap.Token{ID: "abcdef", Secret: "0123456789abcdef"}
	a, client, _ := newAuth(t, ca, bootstrap.Secret(token, day.Add(time.Hour), ""))
	robot, err := client.CoreV1().ServiceAccounts("ns").Create(t.Context(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot", UID: "u"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := a.Issuer.Sign(serviceaccount.Binding{ServiceAccount: robot, Audiences: a.Audiences(), Seconds: 600}, day)
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		cert   *x509.Certificate
		bearer string
		user   string // empty: 401
		groups []string
	}{
		"certificate":         {cert: ca.client(t, "jane", hour, "dev", "ops"), user: "jane", groups: []string{"dev", "ops", "system:authenticated"}},
		"foreign certificate": {cert: foreign.client(t, "jane", hour, "system:masters")},
		"expired certificate": {cert: ca.client(t, "jane", time.Now().Add(-time.Minute))},
		"nothing":             {user: "system:anonymous", groups: []string{"system:unauthenticated"}},
		"service account":     {bearer: issued.Token, user: "system:serviceaccount:ns:robot", groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}},
		"bootstrap token":     {bearer: token.Text(), user: "system:bootstrap:abcdef", groups: []string{"system:bootstrappers", "system:authenticated"}},
		"wrong token":         {bearer: "abcdef.ffffffffffffffff"},
		"unknown token":       {bearer: "zzzzzz.ffffffffffffffff"},
		"garbage":             {bearer: "garbage"},
		"broken JWT":          {bearer: issued.Token[:len(issued.Token)-3] + "AAA"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/api", nil)
			r.TLS = &tls.ConnectionState{}
			if c.cert != nil {
				r.TLS.PeerCertificates = []*x509.Certificate{c.cert}
			}
			if c.bearer != "" {
				r.Header.Set("Authorization", "Bearer "+c.bearer)
			}
			response, ok, err := a.Authenticator().AuthenticateRequest(r)
			if c.user == "" {
				if ok || err == nil {
					t.Fatalf("%+v, %v; want a refusal", response, err)
				}
				return
			}
			if err != nil || !ok || response.User.GetName() != c.user || !slices.Equal(response.User.GetGroups(), c.groups) {
				t.Fatalf("%+v, %v, %v", response, ok, err)
			}
		})
	}
}

func TestAuthorizerWithTheDefaultPolicy(t *testing.T) {
	a, client, factory := newAuth(t, newAuthority(t))
	if err := EnsurePolicy(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	someone := func(name string, groups ...string) user.Info { return &user.DefaultInfo{Name: name, Groups: groups} }
	path := func(u user.Info, path string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{User: u, Verb: "get", Path: path}
	}
	resource := func(u user.Info, verb, group, resource string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{User: u, Verb: verb, APIGroup: group, Resource: resource, Namespace: "ns", ResourceRequest: true}
	}
	anonymous, known := someone("system:anonymous", "system:unauthenticated"), someone("jane", "system:authenticated")
	for name, c := range map[string]struct {
		ask  authorizer.AttributesRecord
		want bool
	}{
		"anonymous version":       {path(anonymous, "/version"), true},
		"anonymous health":        {path(anonymous, "/readyz"), true},
		"anonymous discovery":     {path(anonymous, "/api"), false},
		"anonymous pods":          {resource(anonymous, "list", "", "pods"), false},
		"known discovery":         {path(known, "/apis/apps/v1"), true},
		"known pods":              {resource(known, "list", "", "pods"), false},
		"known may ask":           {resource(known, "create", "authorization.k8s.io", "selfsubjectaccessreviews"), true},
		"masters anything":        {resource(someone("root", "system:masters"), "delete", "x", "y"), true},
		"scheduler binds":         {resource(someone("system:kube-scheduler"), "create", "", "bindings"), true},
		"scheduler secrets":       {resource(someone("system:kube-scheduler"), "get", "", "secrets"), false},
		"node by RBAC alone":      {resource(someone("system:node:n", "system:nodes"), "list", "", "secrets"), false},
		"bootstrap token nothing": {resource(someone("system:bootstrap:abcdef", "system:bootstrappers"), "list", "", "nodes"), false},
		"gc of the controllers":   {resource(someone("system:serviceaccount:kube-system:generic-garbage-collector"), "delete", "x", "y"), true},
	} {
		decision, reason, err := a.Authorizer().Authorize(t.Context(), c.ask)
		if err != nil || (decision == authorizer.DecisionAllow) != c.want {
			t.Errorf("%s: %v %q %v, want allowed %v", name, decision, reason, err, c.want)
		}
	}
}

func TestNewRefusesABadCA(t *testing.T) {
	client := fake.NewClientset()
	ca := newAuthority(t)
	_, err := New(Config{ClientCA: []byte("x"), Keys: []crypto.Signer{ca.key}, Client: client, Informers: informers.NewSharedInformerFactory(client, 0)})
	if err == nil || !strings.Contains(err.Error(), "client CA") {
		t.Fatal(err)
	}
}
