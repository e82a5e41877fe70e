package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// secretSize is the key length of AES-256 and of secretbox.
const secretSize = 32

func (m *Material) markerFile() string { return filepath.Join(m.Dir, "complete") }

// ensureRoots makes or loads what cannot be made twice: CA, service-account keys, encryption keys.
func (m *Material) ensureRoots() error {
	marker := m.markerFile()
	complete, err := readFile(marker)
	if err != nil {
		return err
	}
	mayCreate := complete == nil
	if err := m.ensureCA(mayCreate); err != nil {
		return err
	}
	if err := m.ensureServiceAccountKeys(mayCreate); err != nil {
		return err
	}
	if err := m.ensureEncryptionKeys(mayCreate); err != nil {
		return err
	}
	if mayCreate {
		text := fmt.Sprintf("The files beside this one were made at %s. Once this one exists, none of the roots of trust is made again.\n",
			m.options.Now().UTC().Format(time.RFC3339))
		return writeFile(marker, []byte(text))
	}
	return nil
}

// lost is the error for a root that existed once.
func (m *Material) lost(path, consequence string) error {
	return fmt.Errorf("%s is missing though this control plane was set up before: a new one would %s; "+
		"restore it from a backup, or, to begin anew, move the whole data directory away", path, consequence)
}

func (m *Material) ensureCA(mayCreate bool) error {
	keyText, err := readFile(m.CAKeyFile)
	if err != nil {
		return err
	}
	certText, err := readFile(m.CAFile)
	if err != nil {
		return err
	}
	switch {
	case keyText == nil && certText != nil:
		return fmt.Errorf("%s is there but its key %s is missing: restore the key, or, to begin anew, move the whole data directory away",
			m.CAFile, m.CAKeyFile)
	case keyText == nil && !mayCreate:
		return m.lost(m.CAKeyFile, "lock out every node and client")
	case keyText == nil:
		if keyText, err = m.createKey(m.CAKeyFile); err != nil {
			return err
		}
	}
	keys, err := parseKeys(keyText)
	if err != nil {
		return fmt.Errorf("load %s: %w", m.CAKeyFile, err)
	}
	if certText == nil {
		if m.authority, err = m.createCA(keys[0]); err != nil {
			return err
		}
	} else if m.authority, err = m.loadCA(keys[0], certText); err != nil {
		return err
	}
	m.CA, m.CAPEM = m.authority.cert, m.authority.pem
	return nil
}

func (m *Material) createKey(path string) ([]byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	if err := writeFile(path, text); err != nil {
		return nil, err
	}
	m.options.Log.Info("made key", "file", path)
	return text, nil
}

func (m *Material) createCA(key crypto.Signer) (*authority, error) {
	ca, err := newAuthority(key, m.options.Now())
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", m.CAFile, err)
	}
	if err := writeFile(m.CAFile, ca.pem); err != nil {
		return nil, err
	}
	m.options.Log.Info("made cluster certificate authority", "file", m.CAFile, "hash", ca.hash(), "until", ca.cert.NotAfter)
	return ca, nil
}

func (m *Material) loadCA(key crypto.Signer, text []byte) (*authority, error) {
	certs, err := parseCerts(text)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", m.CAFile, err)
	}
	cert, now := certs[0], m.options.Now()
	switch {
	case !cert.IsCA:
		return nil, fmt.Errorf("load %s: the certificate for %q is not one of an authority", m.CAFile, cert.Subject)
	case !sameKey(cert.PublicKey, key.Public()):
		return nil, fmt.Errorf("load %s: the certificate belongs to another key than %s: put back the two files that belong together",
			m.CAFile, m.CAKeyFile)
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("load %s: the cluster CA expired at %s and the clock says %s: set the clock, or remove %s alone to have it made again from the same key",
			m.CAFile, cert.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), m.CAFile)
	case now.Before(cert.NotBefore):
		m.options.Log.Warn("the clock is behind the cluster CA's first day; clients will refuse it until the clock is set",
			"file", m.CAFile, "from", cert.NotBefore, "clock", now)
	}
	return &authority{cert: cert, key: key, pem: encodeCert(cert.Raw)}, nil
}

func (m *Material) ensureServiceAccountKeys(mayCreate bool) error {
	path := m.ServiceAccountKeyFile
	text, err := readFile(path)
	if err != nil {
		return err
	}
	if text == nil {
		if !mayCreate {
			return m.lost(path, "make the token of every pod invalid")
		}
		if text, err = m.createKey(path); err != nil {
			return err
		}
	}
	if m.ServiceAccountKeys, err = parseKeys(text); err != nil {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

func (m *Material) ensureEncryptionKeys(mayCreate bool) error {
	path := m.EncryptionKeyFile
	text, err := readFile(path)
	if err != nil {
		return err
	}
	if text == nil {
		if !mayCreate {
			return m.lost(path, "make every stored Secret unreadable")
		}
		secret := make([]byte, secretSize)
		if _, err := rand.Read(secret); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
		text = []byte("key1:" + base64.StdEncoding.EncodeToString(secret) + "\n")
		if err := writeFile(path, text); err != nil {
			return err
		}
		m.options.Log.Info("made key", "file", path)
	}
	if m.EncryptionKeys, err = parseEncryptionKeys(text); err != nil {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// parseEncryptionKeys reads lines NAME:BASE64; empty lines and lines that begin with # are skipped. No error holds key text.
func parseEncryptionKeys(text []byte) ([]EncryptionKey, error) {
	var keys []EncryptionKey
	seen := map[string]bool{}
	for i, line := range bytes.Split(text, []byte("\n")) {
		trimmed := strings.TrimSpace(string(line))
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		name, encoded, ok := strings.Cut(trimmed, ":")
		if !ok || name == "" || seen[name] {
			return nil, fmt.Errorf("line %d: want NAME:BASE64 with a name of its own", i+1)
		}
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(secret) != secretSize {
			return nil, fmt.Errorf("line %d: want %d bytes in base64 after the name %q", i+1, secretSize, name)
		}
		seen[name] = true
		keys = append(keys, EncryptionKey{Name: name, Secret: secret})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key found")
	}
	return keys, nil
}
