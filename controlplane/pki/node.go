package pki

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	nodeUserPrefix = "system:node:"
	nodeGroup      = "system:nodes"
)

// ErrInvalidRequest marks a certificate request that will never be signed; do not retry it.
var ErrInvalidRequest = errors.New("invalid certificate request")

// SignNode answers a node's certificate request (DER) with a client certificate for system:node:NAME in system:nodes, in
// PEM. The subject is set here and never taken from the request; a request that names somebody else is refused with
// ErrInvalidRequest, as is one with a weak key or names of its own.
func (m *Material) SignNode(csrDER []byte, nodeName string, now time.Time) ([]byte, error) {
	if problems := validation.IsDNS1123Subdomain(nodeName); len(problems) > 0 {
		return nil, fmt.Errorf("sign certificate for node %q: %w: %s", nodeName, ErrInvalidRequest, strings.Join(problems, ", "))
	}
	request, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for node %s: %w: %w", nodeName, ErrInvalidRequest, err)
	}
	if err := checkNodeRequest(request, nodeName); err != nil {
		return nil, fmt.Errorf("sign certificate for node %s: %w: %w", nodeName, ErrInvalidRequest, err)
	}
	der, err := m.authority.sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: nodeUserPrefix + nodeName, Organization: []string{nodeGroup}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, request.PublicKey, now)
	if err != nil {
		return nil, fmt.Errorf("sign certificate for node %s: %w", nodeName, err)
	}
	return encodeCert(der), nil
}

func checkNodeRequest(request *x509.CertificateRequest, nodeName string) error {
	if err := request.CheckSignature(); err != nil {
		return err
	}
	want := nodeUserPrefix + nodeName
	if cn := request.Subject.CommonName; cn != "" && cn != want {
		return fmt.Errorf("it asks for the name %q, only %q may be had", cn, want)
	}
	if orgs := request.Subject.Organization; len(orgs) > 0 && !slices.Equal(orgs, []string{nodeGroup}) {
		return fmt.Errorf("it asks for the groups %q, only %q may be had", orgs, nodeGroup)
	}
	if len(request.DNSNames)+len(request.IPAddresses)+len(request.EmailAddresses)+len(request.URIs) > 0 {
		return errors.New("it asks for alternative names; a node listens on nothing and needs none")
	}
	switch key := request.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Params().BitSize < 256 {
			return fmt.Errorf("its %d-bit EC key is too weak, use P-256 or better", key.Params().BitSize)
		}
	case *rsa.PublicKey:
		if key.N.BitLen() < 2048 {
			return fmt.Errorf("its %d-bit RSA key is too weak, use 2048 bits or more", key.N.BitLen())
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("its key is of an unknown kind %T", key)
	}
	return nil
}
