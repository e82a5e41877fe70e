package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

var day = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func optionsAt(now time.Time) Options {
	return Options{
		Name: "machine", AdvertiseAddress: net.IPv4(192, 0, 2, 7), ServiceIP: net.IPv4(10, 96, 0, 1),
		ServerNames: []string{"api.example.com", "198.51.100.1"}, ServerURL: "https://127.0.0.1:6443",
		Now: func() time.Time { return now }, Log: quiet(),
	}
}

func ensure(t *testing.T, dir string, now time.Time) *Material {
	t.Helper()
	m, err := Ensure(filepath.Join(dir, "pki"), optionsAt(now))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEnsureMakesAWorkingSet(t *testing.T) {
	m := ensure(t, t.TempDir(), day)
	for name, pair := range map[string]*Pair{"serving": m.Serving, "gateway": m.Gateway} {
		leaf := pair.Certificate().Leaf
		for _, host := range []string{"localhost", "127.0.0.1", "::1", "machine", "192.0.2.7", "10.96.0.1", "kubernetes", "kubernetes.default",
			"kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "api.example.com", "198.51.100.1"} {
			_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: m.CAPool(), CurrentTime: day, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			if err != nil {
				t.Errorf("%s as %s: %v", name, host, err)
			}
		}
	}
	admin := m.Admin.Certificate().Leaf
	if _, err := admin.Verify(x509.VerifyOptions{Roots: m.CAPool(), CurrentTime: day, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Errorf("admin: %v", err)
	}
	if admin.Subject.CommonName != "kubernetes-admin" || !slices.Equal(admin.Subject.Organization, []string{"system:masters"}) {
		t.Errorf("admin is %s", admin.Subject)
	}
	rc, err := clientcmd.BuildConfigFromFlags("", m.KubeconfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if rc.Host != "https://127.0.0.1:6443" || string(rc.CAData) != string(m.CAPEM) {
		t.Errorf("kubeconfig points to %s with CA\n%s", rc.Host, rc.CAData)
	}
	if _, err := tls.X509KeyPair(rc.CertData, rc.KeyData); err != nil {
		t.Errorf("kubeconfig: %v", err)
	}
	if hash, err := HashCA(m.CAPEM); err != nil || hash != m.CAHash() || !strings.HasPrefix(hash, "sha256:") || len(hash) != 71 {
		t.Errorf("hash %q, %v; material says %q", hash, err, m.CAHash())
	}
}

func TestEveryFileIsPrivate(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, day)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, day)
	before := contents(t, dir)
	ensure(t, dir, day.Add(30*24*time.Hour))
	if after := contents(t, dir); !maps.Equal(before, after) {
		t.Fatal("a restart changed files")
	}
}

// interrupt is thrown by a log handler in place of kill -9.
type interrupt struct{}

// countdown interrupts at its nth record; each record follows a write.
type countdown struct {
	slog.Handler
	left *int
}

func (c countdown) Handle(context.Context, slog.Record) error {
	if *c.left--; *c.left == 0 {
		panic(interrupt{})
	}
	return nil
}

func TestKilledBetweenAnyTwoWrites(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		left := n
		o := optionsAt(day)
		o.Log = slog.New(countdown{Handler: quiet().Handler(), left: &left})
		killed := func() (killed bool) {
			defer func() {
				if r := recover(); r != nil {
					if _, ok := r.(interrupt); !ok {
						panic(r)
					}
					killed = true
				}
			}()
			if _, err := Ensure(filepath.Join(dir, "pki"), o); err != nil {
				t.Fatal(err)
			}
			return false
		}()
		if !killed {
			if n != 9 {
				t.Fatalf("%d writes were interrupted, want CA key and certificate, two keys, three leaves, kubeconfig", n-1)
			}
			return
		}
		before := contents(t, dir)
		if err := os.WriteFile(filepath.Join(dir, "pki", ".ca.key.123"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		m := ensure(t, dir, day)
		after := contents(t, dir)
		for path, text := range before {
			if after[path] != text {
				t.Errorf("killed after write %d: %s changed on the next start", n, path)
			}
		}
		if _, ok := after[filepath.Join(dir, "pki", ".ca.key.123")]; ok {
			t.Errorf("a leftover stayed")
		}
		if _, err := m.Serving.Certificate().Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: m.CAPool(), CurrentTime: day}); err != nil {
			t.Errorf("killed after write %d: %v", n, err)
		}
	}
}

func TestCACertificateIsMadeAgainFromItsKey(t *testing.T) {
	dir := t.TempDir()
	old := ensure(t, dir, day)
	if err := os.Remove(old.CAFile); err != nil {
		t.Fatal(err)
	}
	m := ensure(t, dir, day.Add(time.Hour))
	if m.CAHash() != old.CAHash() {
		t.Fatal("the pin changed")
	}
	if err := old.Serving.Certificate().Leaf.CheckSignatureFrom(m.CA); err != nil {
		t.Fatal(err)
	}
}

func TestRenewal(t *testing.T) {
	for name, c := range map[string]struct {
		at    time.Time
		renew bool
	}{
		"young":                     {day.Add(100 * 24 * time.Hour), false},
		"two thirds used":           {day.Add(250 * 24 * time.Hour), true},
		"expired":                   {day.Add(400 * 24 * time.Hour), true},
		"clock at 1970":             {time.Unix(0, 0), false},
		"clock two years ahead":     {day.Add(730 * 24 * time.Hour), true},
		"clock a little behind":     {day.Add(-48 * time.Hour), false},
		"clock of the day it began": {day, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			before := ensure(t, dir, day).Serving.Certificate().Leaf.SerialNumber
			m := ensure(t, dir, c.at)
			if renewed := m.Serving.Certificate().Leaf.SerialNumber.Cmp(before) != 0; renewed != c.renew {
				t.Fatalf("renewed: %v, want %v", renewed, c.renew)
			}
			if c.renew {
				if _, err := m.Serving.Certificate().Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: m.CAPool(), CurrentTime: c.at}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestRunningPairChangesInPlace(t *testing.T) {
	now := day
	o := optionsAt(day)
	o.Now = func() time.Time { return now }
	m, err := Ensure(filepath.Join(t.TempDir(), "pki"), o)
	if err != nil {
		t.Fatal(err)
	}
	first, err := m.Serving.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := os.ReadFile(m.KubeconfigFile)
	if err != nil {
		t.Fatal(err)
	}
	now = day.Add(300 * 24 * time.Hour)
	if err := m.Renew(); err != nil {
		t.Fatal(err)
	}
	if second, err := m.Serving.GetCertificate(nil); err != nil || second == first {
		t.Fatalf("the listener still gets the old pair (%v)", err)
	}
	if after, err := os.ReadFile(m.KubeconfigFile); err != nil || string(after) == string(kubeconfig) {
		t.Fatalf("the kubeconfig still holds the old certificate (%v)", err)
	}
}

func TestNewNameMakesNewCertificate(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, day)
	o := optionsAt(day)
	o.AdvertiseAddress = net.IPv4(203, 0, 113, 9)
	m, err := Ensure(filepath.Join(dir, "pki"), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Serving.Certificate().Leaf.VerifyHostname("203.0.113.9"); err != nil {
		t.Fatal(err)
	}
}

func TestFirstStartInThePastHasAUsableCA(t *testing.T) {
	dir := t.TempDir()
	ensure(t, dir, time.Unix(0, 0))
	m := ensure(t, dir, day)
	if _, err := m.Serving.Certificate().Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: m.CAPool(), CurrentTime: day}); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsNameTheFileAndTheRemedy(t *testing.T) {
	foreign := ensure(t, t.TempDir(), day)
	take := func(from string) func(t *testing.T, to string) {
		return func(t *testing.T, to string) {
			text, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(to, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	text := func(s string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		file string
		harm func(t *testing.T, path string)
		at   time.Time
		want string
	}{
		"foreign leaf":            {"apiserver.pem", take(foreign.Serving.File), day, "not by the cluster CA"},
		"foreign CA certificate":  {"ca.crt", take(foreign.CAFile), day, "belongs to another key"},
		"foreign CA key":          {"ca.key", take(foreign.CAKeyFile), day, "belongs to another key"},
		"leaf as CA":              {"ca.crt", take(foreign.Serving.File), day, "not one of an authority"},
		"CA expired":              {"complete", func(*testing.T, string) {}, day.Add(11 * 365 * 24 * time.Hour), "expired at"},
		"CA key lost":             {"ca.key", remove, day, "restore the key"},
		"account key lost":        {"service-account.key", remove, day, "restore it from a backup"},
		"encryption key lost":     {"encryption.key", remove, day, "every stored Secret unreadable"},
		"garbage in CA":           {"ca.crt", text("garbage"), day, "no certificate in PEM form"},
		"garbage in CA key":       {"ca.key", text("garbage"), day, "no private key in PEM form"},
		"garbage in leaf":         {"gateway.pem", text("garbage"), day, "remove the file"},
		"short encryption key":    {"encryption.key", text("key1:AAAA"), day, "line 1: want 32 bytes"},
		"nameless encryption key": {"encryption.key", text("AAAA"), day, "NAME:BASE64"},
		"empty account key":       {"service-account.key", text(""), day, "no private key"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ensure(t, dir, day)
			path := filepath.Join(dir, "pki", c.file)
			c.harm(t, path)
			_, err := Ensure(filepath.Join(dir, "pki"), optionsAt(c.at))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want it to say %q", err, c.want)
			}
			if name != "CA expired" && !strings.Contains(err.Error(), dir) {
				t.Fatalf("%v names no file", err)
			}
		})
	}
}

func TestSignNode(t *testing.T) {
	m := ensure(t, t.TempDir(), day)
	good, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	node := pkix.Name{CommonName: "system:node:pi", Organization: []string{"system:nodes"}}
	for name, c := range map[string]struct {
		key      any
		template x509.CertificateRequest
		node     string
		ok       bool
	}{
		"full subject":      {good, x509.CertificateRequest{Subject: node}, "pi", true},
		"no subject":        {good, x509.CertificateRequest{}, "pi", true},
		"ed25519":           {edwards, x509.CertificateRequest{}, "pi", true},
		"other node":        {good, x509.CertificateRequest{Subject: node}, "other", false},
		"admin's group":     {good, x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:pi", Organization: []string{"system:masters"}}}, "pi", false},
		"two groups":        {good, x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:pi", Organization: []string{"system:nodes", "system:masters"}}}, "pi", false},
		"a name of its own": {good, x509.CertificateRequest{DNSNames: []string{"kubernetes"}}, "pi", false},
		"weak curve":        {weak, x509.CertificateRequest{}, "pi", false},
		"short RSA":         {short, x509.CertificateRequest{}, "pi", false},
		"bad node name":     {good, x509.CertificateRequest{}, "Pi_1", false},
		"empty name":        {good, x509.CertificateRequest{}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			csr, err := x509.CreateCertificateRequest(rand.Reader, &c.template, c.key)
			if err != nil {
				t.Skipf("this Go makes no such request: %v", err)
			}
			text, err := m.SignNode(csr, c.node, day)
			if !c.ok {
				if !errors.Is(err, ErrInvalidRequest) {
					t.Fatalf("got %v, want ErrInvalidRequest", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(text)
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if leaf.Subject.CommonName != "system:node:pi" || !slices.Equal(leaf.Subject.Organization, []string{"system:nodes"}) || leaf.IsCA {
				t.Fatalf("signed %s, CA %v", leaf.Subject, leaf.IsCA)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: m.CAPool(), CurrentTime: day, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Fatal(err)
			}
		})
	}
	broken, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: node}, good)
	if err != nil {
		t.Fatal(err)
	}
	broken[len(broken)-1] ^= 1
	if _, err := m.SignNode(broken, "pi", day); !errors.Is(err, ErrInvalidRequest) {
		t.Fatalf("a request with a broken signature: %v", err)
	}
}

func FuzzEncryptionKeys(f *testing.F) {
	f.Add("key1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	f.Add("# old\na:b\n\n:x")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseEncryptionKeys([]byte(text))
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys and error %v", len(keys), err)
		}
		for _, key := range keys {
			if key.Name == "" || len(key.Secret) != secretSize {
				t.Fatalf("bad key %q of %d bytes", key.Name, len(key.Secret))
			}
		}
	})
}

func FuzzSignNode(f *testing.F) {
	m, err := Ensure(filepath.Join(f.TempDir(), "pki"), optionsAt(day))
	if err != nil {
		f.Fatal(err)
	}
	key, err := newKey()
	if err != nil {
		f.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr, "pi")
	f.Fuzz(func(t *testing.T, csr []byte, name string) {
		text, err := m.SignNode(csr, name, day)
		if err != nil {
			return
		}
		block, _ := pem.Decode(text)
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || leaf.Subject.CommonName != "system:node:"+name || leaf.IsCA {
			t.Fatalf("signed %v, %v", leaf, err)
		}
	})
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
