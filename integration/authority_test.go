package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a CA that a test signs certificates with.
type authority struct {
	t   testing.TB
	dir string
	tls.Certificate
	file string // its certificate, PEM
}

// newAuthority makes a CA with a key of its own.
func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.file, _ = a.issue("ca", template)
	var err error
	if a.Certificate, err = tls.LoadX509KeyPair(a.file, filepath.Join(a.dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	return a
}

// authorityOf is the CA of a control plane, from its data directory.
func authorityOf(t testing.TB, dataDir string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), file: filepath.Join(dataDir, "pki", "ca.crt")}
	var err error
	if a.Certificate, err = tls.LoadX509KeyPair(a.file, filepath.Join(dataDir, "pki", "ca.key")); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Leaf)
	return pool
}

// issue signs the template, with a new key, and returns the files NAME.crt and NAME.key. It is valid from a day ago for
// an hour, unless the template says otherwise. The first certificate of a new authority signs itself.
func (a *authority) issue(name string, template *x509.Certificate) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		a.t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := template, any(key)
	if a.Leaf != nil {
		parent, signer = a.Leaf, a.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// server issues a serving certificate for one address.
func (a *authority) server(ip string) (certFile, keyFile string) {
	a.t.Helper()
	return a.issue("server", &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.ParseIP(ip)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// client issues a client certificate.
func (a *authority) client(name string) (certFile, keyFile string) {
	a.t.Helper()
	return a.issue(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}
