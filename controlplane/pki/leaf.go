package pki

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

// Pair is a certificate with its key that may be exchanged while it is in use. Safe for concurrent use.
type Pair struct {
	// File holds certificate and key, in this order, in one PEM text. It serves as certificate file and as key file.
	File string

	spec    leafSpec
	current atomic.Pointer[tls.Certificate]
}

// leafSpec is what a leaf must say; a file that says less is cut anew.
type leafSpec struct {
	commonName    string
	organizations []string
	dnsNames      []string
	ips           []net.IP
	usages        []x509.ExtKeyUsage
}

// Certificate is the pair in force now. The caller must not change it.
func (p *Pair) Certificate() *tls.Certificate { return p.current.Load() }

// GetCertificate is for tls.Config.GetCertificate: each handshake gets the newest pair.
func (p *Pair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return p.current.Load(), nil
}

// ensure loads the pair from its file and cuts it anew where it is missing, nearly used up or lacks a name.
// The returned reason is empty when the file was good as it stood.
func (p *Pair) ensure(ca *authority, now time.Time) (reason string, err error) {
	text, err := readFile(p.File)
	if err != nil {
		return "", err
	}
	if text == nil {
		return "it did not exist", p.issue(ca, now)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return "", fmt.Errorf("load %s: %w (remove the file to have a new one made)", p.File, err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return "", fmt.Errorf("load %s: %w (remove the file to have a new one made)", p.File, err)
	}
	pair.Leaf = leaf
	if err := leaf.CheckSignatureFrom(ca.cert); err != nil {
		return "", fmt.Errorf("load %s: the certificate was signed by %q and not by the cluster CA %s: %w "+
			"(put the CA back that belongs to it, or remove the file to have a new one made)",
			p.File, leaf.Issuer, ca.hash(), err)
	}
	if reason := p.spec.staleness(leaf, ca, now); reason != "" {
		return reason, p.issue(ca, now)
	}
	p.current.Store(&pair)
	return "", nil
}

// staleness says why leaf must be replaced, or nothing.
func (s *leafSpec) staleness(leaf *x509.Certificate, ca *authority, now time.Time) string {
	// A clock that was not set yet is no reason to cut certificates: only its names are looked at then.
	if clockSet := !now.Before(ca.cert.NotBefore); clockSet {
		switch {
		case !now.Before(leaf.NotAfter):
			return "it expired at " + leaf.NotAfter.UTC().Format(time.RFC3339)
		case leaf.NotAfter.Sub(now) < leafLife/3 && leaf.NotAfter.Before(ca.cert.NotAfter):
			return "two thirds of its life are over"
		}
	}
	if leaf.Subject.CommonName != s.commonName || !slices.Equal(leaf.Subject.Organization, s.organizations) {
		return fmt.Sprintf("it was for %q", leaf.Subject)
	}
	for _, name := range s.dnsNames {
		if !slices.Contains(leaf.DNSNames, name) {
			return "it lacked the name " + name
		}
	}
	for _, ip := range s.ips {
		if !slices.ContainsFunc(leaf.IPAddresses, ip.Equal) {
			return "it lacked the address " + ip.String()
		}
	}
	return ""
}

// issue makes a new key and certificate, puts them on disk and then into use.
func (p *Pair) issue(ca *authority, now time.Time) error {
	key, err := newKey()
	if err != nil {
		return fmt.Errorf("make key for %s: %w", p.File, err)
	}
	der, err := ca.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: p.spec.commonName, Organization: p.spec.organizations},
		DNSNames:    p.spec.dnsNames,
		IPAddresses: p.spec.ips,
		ExtKeyUsage: p.spec.usages,
	}, key.Public(), now)
	if err != nil {
		return fmt.Errorf("sign %s: %w", p.File, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("encode key for %s: %w", p.File, err)
	}
	text := append(encodeCert(der), keyPEM...)
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		return fmt.Errorf("check new %s: %w", p.File, err)
	}
	if err := writeFile(p.File, text); err != nil {
		return err
	}
	p.current.Store(&pair)
	return nil
}
