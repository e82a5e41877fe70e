package identity

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coracle/internal/fault"
	nodev1 "coracle/proto/node/v1"
)

// authority is a cluster's CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "ca"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) hash() string {
	sum := sha256.Sum256(a.cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// issue answers a request with a certificate for the node named.
func (a *authority) issue(t *testing.T, csr []byte, node string) []byte {
	t.Helper()
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Minute).Truncate(time.Second), NotAfter: time.Now().Add(time.Hour).Truncate(time.Second), Subject: pkix.Name{CommonName: userPrefix + node, Organization: []string{group}}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, req.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// server returns a TLS certificate for the names, or an address.
func (a *authority) server(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(3), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}
}

// enrollment is a client whose server answers from here.
type enrollment struct {
	nodev1.EnrollmentClient
	renew func(*nodev1.RenewRequest) (*nodev1.RenewResponse, error)
}

func (e enrollment) Renew(_ context.Context, req *nodev1.RenewRequest, _ ...grpc.CallOption) (*nodev1.RenewResponse, error) {
	return e.renew(req)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// joined makes an identity as Join does, without a server.
func joined(t *testing.T, a *authority) *Identity {
	t.Helper()
	csr, key, err := newRequest("n1")
	if err != nil {
		t.Fatal(err)
	}
	i := &Identity{dir: filepath.Join(t.TempDir(), "identity"), log: quiet()}
	if err := i.save("n1", key, a.issue(t, csr, "n1"), a.pem()); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestFilesArePrivateAndComeBack(t *testing.T) {
	a := newAuthority(t)
	i := joined(t, a)
	entries, err := os.ReadDir(i.dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
	again, err := Load(i.dir, quiet())
	if err != nil || again.NodeName() != "n1" || !again.NotAfter().Equal(i.NotAfter()) || !bytes.Equal(again.CA(), a.pem()) {
		t.Fatalf("%v %v", again, err)
	}
	left, life := again.RenewAt().Sub(again.current().Leaf.NotBefore), again.NotAfter().Sub(again.current().Leaf.NotBefore)
	if left != life*2/3 {
		t.Errorf("renewed after %v of %v", left, life)
	}
}

func TestLoadSaysWhatIsWrong(t *testing.T) {
	a := newAuthority(t)
	for name, tc := range map[string]struct {
		damage func(dir string) error
		want   error
		text   string
	}{
		"nothing there": {func(dir string) error { return os.RemoveAll(dir) }, ErrNotJoined, "coracle-agent join"},
		"no CA":         {func(dir string) error { return os.Remove(filepath.Join(dir, caFile)) }, ErrNotJoined, "coracle-agent join"},
		"cut":           {func(dir string) error { return os.Truncate(filepath.Join(dir, pairFile), 100) }, nil, "join again"},
		"empty CA":      {func(dir string) error { return os.Truncate(filepath.Join(dir, caFile), 0) }, nil, "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			i := joined(t, a)
			if err := tc.damage(i.dir); err != nil {
				t.Fatal(err)
			}
			_, err := Load(i.dir, quiet())
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRenew(t *testing.T) {
	a := newAuthority(t)
	for name, tc := range map[string]struct {
		answer func(csr []byte) (*nodev1.RenewResponse, error)
		want   error // nil: renewed
		text   string
	}{
		"renewed": {func(csr []byte) (*nodev1.RenewResponse, error) {
			return &nodev1.RenewResponse{Certificate: a.issue(t, csr, "n1"), Ca: a.pem()}, nil
		}, nil, ""},
		"for another node": {func(csr []byte) (*nodev1.RenewResponse, error) {
			return &nodev1.RenewResponse{Certificate: a.issue(t, csr, "n2"), Ca: a.pem()}, nil
		}, errAny, `for node "n2", this is "n1"`},
		"for another key": {func([]byte) (*nodev1.RenewResponse, error) {
			csr, _, err := newRequest("n1")
			return &nodev1.RenewResponse{Certificate: a.issue(t, csr, "n1"), Ca: a.pem()}, err
		}, errAny, "unusable"},
		"rubbish": {func([]byte) (*nodev1.RenewResponse, error) {
			return &nodev1.RenewResponse{Certificate: []byte("hello")}, nil
		}, errAny, "unusable"},
		"refused": {func([]byte) (*nodev1.RenewResponse, error) {
			return nil, status.Error(codes.PermissionDenied, "no longer part of the cluster")
		}, ErrRefused, "no longer part of the cluster"},
		"away": {func([]byte) (*nodev1.RenewResponse, error) {
			return nil, status.Error(codes.Unavailable, "connection refused")
		}, fault.ErrUnavailable, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			i := joined(t, a)
			before := i.current()
			err := i.Renew(t.Context(), enrollment{renew: func(req *nodev1.RenewRequest) (*nodev1.RenewResponse, error) { return tc.answer(req.GetCsr()) }})
			if tc.want == nil {
				if err != nil || i.current() == before {
					t.Fatalf("not renewed: %v", err)
				}
			} else if err == nil || !errors.Is(tc.want, errAny) && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) || i.current() != before {
				t.Fatalf("got %v", err)
			}
			onDisk, err := Load(i.dir, quiet())
			if err != nil || !bytes.Equal(onDisk.current().Certificate[0], i.current().Certificate[0]) {
				t.Errorf("disk and memory differ: %v", err)
			}
		})
	}
}

var errAny = errors.New("any")

// The server is checked against this cluster's CA, its name, and a clock that may be given.
func TestServerIsChecked(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	i := joined(t, a)
	for name, tc := range map[string]struct {
		server tls.Certificate
		times  []time.Time
		text   string
	}{
		"good":            {a.server(t, "gateway"), []time.Time{time.Now()}, ""},
		"another cluster": {other.server(t, "gateway"), []time.Time{time.Now(), time.Now()}, "belongs to another cluster"},
		"another name":    {a.server(t, "elsewhere"), []time.Time{time.Now()}, "elsewhere"},
		"in ten years":    {a.server(t, "gateway"), []time.Time{time.Now().Add(10 * 365 * 24 * time.Hour)}, "expired"},
		"clock ahead":     {a.server(t, "gateway"), []time.Time{time.Now().Add(10 * 365 * 24 * time.Hour), time.Now()}, ""},
		"clock at 1970":   {a.server(t, "gateway"), []time.Time{time.Unix(-5, 0), time.Now()}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := net.Pipe()
			defer here.Close()
			served := make(chan error, 1)
			go func() {
				s := tls.Server(there, &tls.Config{Certificates: []tls.Certificate{tc.server}, ClientAuth: tls.RequestClientCert})
				err := s.Handshake()
				if err == nil && (len(s.ConnectionState().PeerCertificates) != 1 || s.ConnectionState().PeerCertificates[0].Subject.CommonName != "system:node:n1") {
					err = errors.New("the node's certificate was not shown")
				}
				_ = there.Close()
				served <- err
			}()
			err := tls.Client(here, i.TLS("gateway", func() []time.Time { return tc.times })).Handshake()
			if (err == nil) != (tc.text == "") || err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %q", err, tc.text)
			}
			_ = here.Close()
			if serverErr := <-served; err == nil && serverErr != nil {
				t.Error(serverErr)
			}
		})
	}
}

func TestPin(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	state := func(c tls.Certificate) tls.ConnectionState {
		var s tls.ConnectionState
		for _, der := range c.Certificate {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			s.PeerCertificates = append(s.PeerCertificates, cert)
		}
		return s
	}
	if err := verifyPinned(state(a.server(t, "gateway")), a.hash(), "gateway", time.Now()); err != nil {
		t.Error(err)
	}
	if err := verifyPinned(state(other.server(t, "gateway")), a.hash(), "gateway", time.Now()); !errors.Is(err, ErrWrongCAHash) || !strings.Contains(err.Error(), other.hash()) {
		t.Errorf("got %v", err)
	}
	// A stranger may send the right CA along, which is public, with a certificate of his own.
	forged := other.server(t, "gateway")
	forged.Certificate[1] = a.cert.Raw
	if err := verifyPinned(state(forged), a.hash(), "gateway", time.Now()); err == nil {
		t.Error("a certificate that the CA did not sign was accepted")
	}
	alone := a.server(t, "gateway")
	alone.Certificate = alone.Certificate[:1]
	if err := verifyPinned(state(alone), a.hash(), "gateway", time.Now()); !errors.Is(err, ErrWrongCAHash) || !strings.Contains(err.Error(), "showed no CA") {
		t.Errorf("got %v", err)
	}
}
