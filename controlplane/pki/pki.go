package pki

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// renewEvery is how often a running control plane looks at its leaves; they are replaced four months before their end.
const renewEvery = 12 * time.Hour

// AdminUser and AdminGroup are what the admin certificate says: the group passes every authorisation.
const (
	AdminUser  = "kubernetes-admin"
	AdminGroup = "system:masters"
)

// Options say what the certificates must hold. The zero value of each field is usable unless said otherwise.
type Options struct {
	// Name is this machine's name, a subject alternative name. Default: the host name.
	Name string
	// AdvertiseAddress is where others reach this control plane; nil leaves it out.
	AdvertiseAddress net.IP
	// ServiceIP is the cluster IP of the Service "kubernetes" (first of the service CIDR); nil leaves it out.
	ServiceIP net.IP
	// ClusterDomain is the DNS suffix, default "cluster.local".
	ClusterDomain string
	// ServerNames are further names and addresses, for example of a load balancer.
	ServerNames []string
	// Kubeconfig is where the admin kubeconfig is written; empty: "admin.kubeconfig" in the directory above.
	Kubeconfig string
	// ServerURL is the address in the admin kubeconfig, default https://127.0.0.1:6443.
	ServerURL string
	// Now is the clock, default time.Now().
	Now func() time.Time
	// Log receives one line for each file made or replaced; default slog.Default().
	Log *slog.Logger
}

// Material is everything Ensure made or found. Its methods are safe for concurrent use; its fields are not to be changed.
type Material struct {
	Dir            string
	CAFile         string // PEM certificate of the cluster CA
	CAKeyFile      string
	KubeconfigFile string

	// CAPEM is the CA certificate as nodes and pods get it.
	CAPEM []byte
	// CA is the same, parsed.
	CA *x509.Certificate

	// Serving is for the REST API, Gateway for the agents' door, Admin the client certificate of the kubeconfig.
	Serving, Gateway, Admin *Pair

	// ServiceAccountKeys: the first signs tokens, all of them verify.
	ServiceAccountKeys    []crypto.Signer
	ServiceAccountKeyFile string

	// EncryptionKeys: the first encrypts Secrets in etcd, all of them decrypt.
	EncryptionKeys    []EncryptionKey
	EncryptionKeyFile string

	authority *authority
	options   Options
	mu        sync.Mutex // one renewal at a time
}

// EncryptionKey is a named 32-byte key. The name is stored beside each ciphertext, so it must stay the same for the key.
type EncryptionKey struct {
	Name   string
	Secret []byte
}

// Ensure makes or loads all files in dir. It may be killed at any instruction and called again. Errors name the file, what
// is wrong with it and what to do.
func Ensure(dir string, options Options) (*Material, error) {
	options = options.withDefaults(dir)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make key directory: %w", err)
	}
	if err := os.Chmod(dir, dirMode); err != nil {
		return nil, fmt.Errorf("make key directory private: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	m := newMaterial(dir, options)
	if err := m.removeLeftovers(); err != nil {
		return nil, err
	}
	if err := m.ensureRoots(); err != nil {
		return nil, err
	}
	if err := m.Renew(); err != nil {
		return nil, err
	}
	return m, nil
}

func (o Options) withDefaults(dir string) Options {
	if o.Name == "" {
		o.Name, _ = os.Hostname() // without a name the certificate lacks one entry; nothing else depends on it
	}
	if o.ClusterDomain == "" {
		o.ClusterDomain = "cluster.local"
	}
	if o.Kubeconfig == "" {
		o.Kubeconfig = filepath.Join(filepath.Dir(filepath.Clean(dir)), "admin.kubeconfig")
	}
	if o.ServerURL == "" {
		o.ServerURL = "https://127.0.0.1:6443"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

func newMaterial(dir string, o Options) *Material {
	dns, ips := serverNames(o)
	server := leafSpec{
		dnsNames: dns, ips: ips,
		usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	serving, gateway := server, server
	serving.commonName, gateway.commonName = "kube-apiserver", "coracle-gateway"
	return &Material{
		Dir:                   dir,
		CAFile:                filepath.Join(dir, "ca.crt"),
		CAKeyFile:             filepath.Join(dir, "ca.key"),
		KubeconfigFile:        o.Kubeconfig,
		ServiceAccountKeyFile: filepath.Join(dir, "service-account.key"),
		EncryptionKeyFile:     filepath.Join(dir, "encryption.key"),
		Serving:               &Pair{File: filepath.Join(dir, "apiserver.pem"), spec: serving},
		Gateway:               &Pair{File: filepath.Join(dir, "gateway.pem"), spec: gateway},
		Admin: &Pair{File: filepath.Join(dir, "admin.pem"), spec: leafSpec{
			commonName: AdminUser, organizations: []string{AdminGroup},
			usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}},
		options: o,
	}
}

// CAHash pins the CA for joining nodes: "sha256:" and the hex digest of its SubjectPublicKeyInfo.
func (m *Material) CAHash() string { return m.authority.hash() }

// HashCA is CAHash for a CA certificate in PEM.
func HashCA(caPEM []byte) (string, error) {
	certs, err := parseCerts(caPEM)
	if err != nil {
		return "", err
	}
	return (&authority{cert: certs[0]}).hash(), nil
}

// CAPool holds the cluster CA alone.
func (m *Material) CAPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(m.CA)
	return pool
}

// Renew cuts the leaves that are due and brings the kubeconfig in line. The serving pairs change under running listeners.
func (m *Material) Renew() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.options.Now()
	var errs []error
	for _, pair := range []*Pair{m.Serving, m.Gateway, m.Admin} {
		reason, err := pair.ensure(m.authority, now)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if reason != "" {
			m.options.Log.Info("made certificate", "file", pair.File, "reason", reason,
				"until", pair.Certificate().Leaf.NotAfter)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return m.ensureKubeconfig()
}

// Run renews leaves while the control plane lives. It returns when ctx ends; a failed renewal is logged and tried again,
// since the old pair is good for months.
func (m *Material) Run(ctx context.Context) error {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := m.Renew(); err != nil {
				m.options.Log.Error("renew certificates", "err", err)
			}
		}
	}
}
