// Package identity is who this node is: its key, its certificate and the authorities it trusts.
//
// It owns the files in which they live, joining by token, and renewal. It does not keep a
// connection: agent/session does, with the TLS configuration from here.
//
//	DIR/node.pem  0600  the private key and the certificate, exchanged together
//	DIR/ca.pem    0600  every CA that servers of this cluster may present
//
// Invariants: the private key never leaves the node; the token is sent only to a server
// whose CA has the hash that was given; files are exchanged whole, so that a power cut leaves
// the old pair or the new one.
package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	pairFile = "node.pem"
	caFile   = "ca.pem"

	userPrefix = "system:node:"
	group      = "system:nodes"
)

// ErrNotJoined says that this node has no identity yet.
var ErrNotJoined = errors.New("this node has not joined a cluster")

// Identity is safe for concurrent use.
type Identity struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	pair *tls.Certificate // Leaf is set
	ca   *x509.CertPool
	raw  []byte // PEM of ca
}

// Load reads the identity from dir. The error is ErrNotJoined where there is none, and says
// which file is unusable otherwise.
func Load(dir string, log *slog.Logger) (*Identity, error) {
	pairPEM, err := os.ReadFile(filepath.Join(dir, pairFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w; run: coracle-agent join", filepath.Join(dir, pairFile), ErrNotJoined)
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's certificate: %w", err)
	}
	caPEM, err := os.ReadFile(filepath.Join(dir, caFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w; run: coracle-agent join", filepath.Join(dir, caFile), ErrNotJoined)
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's CA: %w", err)
	}
	i := &Identity{dir: dir, log: log}
	if err := i.use(pairPEM, caPEM); err != nil {
		return nil, fmt.Errorf("identity in %s: %w; join again, or restore the files", dir, err)
	}
	return i, nil
}

// use takes over a pair and a bundle after checking them.
func (i *Identity) use(pairPEM, caPEM []byte) error {
	pair, err := tls.X509KeyPair(pairPEM, pairPEM)
	if err != nil {
		return fmt.Errorf("parse %s: %w", pairFile, err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fmt.Errorf("parse %s: %w", pairFile, err)
	}
	pair.Leaf = leaf
	if !strings.HasPrefix(leaf.Subject.CommonName, userPrefix) {
		return fmt.Errorf("the certificate is for %q, not for a node", leaf.Subject.CommonName)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(caPEM) {
		return fmt.Errorf("%s holds no certificate", caFile)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pair, i.ca, i.raw = &pair, pool, bytes.Clone(caPEM)
	return nil
}

func (i *Identity) current() *tls.Certificate {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.pair
}

// NodeName is the name in the certificate.
func (i *Identity) NodeName() string {
	return strings.TrimPrefix(i.current().Leaf.Subject.CommonName, userPrefix)
}

// CA returns the PEM of the authorities that servers of this cluster may present.
func (i *Identity) CA() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return bytes.Clone(i.raw)
}

// NotAfter is when the certificate in use ends.
func (i *Identity) NotAfter() time.Time { return i.current().Leaf.NotAfter }

// RenewAt is when two thirds of the certificate's life have passed.
func (i *Identity) RenewAt() time.Time {
	leaf := i.current().Leaf
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

// TLS returns a client configuration for the server at host. Certificate and authorities
// are looked up at each handshake, so that a renewal needs no new configuration. The
// server's certificate must be valid at one of the times, tried in order: a machine's clock
// may stand at 1970 or years ahead, and then a time that is known to have passed is the better one.
func (i *Identity) TLS(host string, times func() []time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: host,
		// Always this certificate, also when it has expired: proof of the key is what a renewal within the grace time needs.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.current(), nil },
		// Verified below, against the authorities of the moment.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			i.mu.Lock()
			roots := i.ca
			i.mu.Unlock()
			var err error
			for n, now := range times() {
				var invalid x509.CertificateInvalidError
				again := verifyServer(state, roots, host, now)
				if again == nil {
					return nil
				}
				if n == 0 {
					err = again
				}
				if !errors.As(again, &invalid) || invalid.Reason != x509.Expired {
					break // no other time will make it better
				}
			}
			return err
		},
	}
}

func verifyServer(state tls.ConnectionState, roots *x509.CertPool, host string, now time.Time) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, DNSName: host, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%s belongs to another cluster than the one this node joined: %w", host, err)
	}
	return err
}

// newRequest makes a key and a certificate request for the node.
func newRequest(nodeName string) (csr, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: userPrefix + nodeName, Organization: []string{group}},
	}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return csr, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// save takes over what the server issued and makes it durable. The bundle is written
// first: it names at least the CA that is trusted already, so either order of files works.
func (i *Identity) save(nodeName string, keyPEM, certPEM, caPEM []byte) error {
	pairPEM := append(bytes.Clone(keyPEM), certPEM...)
	check := &Identity{}
	if err := check.use(pairPEM, caPEM); err != nil {
		return fmt.Errorf("the server's answer is unusable: %w", err)
	}
	if got := check.NodeName(); got != nodeName {
		return fmt.Errorf("the server's answer is unusable: the certificate is for node %q, this is %q", got, nodeName)
	}
	if err := os.MkdirAll(i.dir, 0o700); err != nil {
		return fmt.Errorf("make identity directory: %w", err)
	}
	if err := writeFile(filepath.Join(i.dir, caFile), caPEM); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(i.dir, pairFile), pairPEM); err != nil {
		return err
	}
	return i.use(pairPEM, caPEM)
}

// writeFile exchanges a file whole, durably, readable by its owner alone.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-") // 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, openErr := os.Open(dir)
	if openErr != nil {
		return fmt.Errorf("sync %s: %w", dir, openErr)
	}
	return errors.Join(d.Sync(), d.Close())
}
