package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Secrets are sealed with a key of the node: in the records of Secret objects and of service-account tokens only
// ciphertext reaches the store's file, so that a copy of it, a backup or a stray page of the disk tells nothing.
//
// The key is the systemd credential coracle-store-key where the unit is given one (systemd-creds can bind it to the
// machine's TPM: then the whole disk may be stolen), else DIR/store.key, made at first use, 0600. A key that lies beside
// what it opens does not protect from somebody who holds the whole disk, nor from root; nothing on the disk could.
//
// Where the key is lost the records are as good as damaged: they are dropped and asked for again.
const (
	// KeyFile is the name of the key's file, beside the store's.
	KeyFile = "store.key"

	credential    = "coracle-store-key"
	keySize       = 32
	leastKey      = 16 // of a credential, bytes
	nonceSize     = 12
	sealedVersion = 2
)

// sealer seals and opens payloads. The zero value has no key: it seals nothing and opens nothing that is sealed.
type sealer struct {
	aead cipher.AEAD
	mac  []byte
}

// loadSealer reads the key, or makes it.
func loadSealer(dir string, log *slog.Logger) (*sealer, error) {
	if creds := os.Getenv("CREDENTIALS_DIRECTORY"); creds != "" {
		key, err := os.ReadFile(filepath.Join(creds, credential))
		if err == nil && len(key) < leastKey {
			err = fmt.Errorf("it has %d bytes, at least %d are wanted", len(key), leastKey)
		}
		if err == nil {
			return newSealer(key)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read credential %s: %w", credential, err)
		}
	}
	path := filepath.Join(dir, KeyFile)
	key, err := os.ReadFile(path)
	switch {
	case err == nil && len(key) == keySize:
		return newSealer(key)
	case err == nil:
		log.Error("the key of the store was damaged and is made anew; secrets are asked for again", "file", path, "bytes", len(key))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the key of the store: %w", err)
	}
	key = make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make the key of the store: %w", err)
	}
	if err := writeKey(path, key); err != nil {
		// A full disk must not keep a node's pods from starting.
		log.Error("the key of the store cannot be written; secrets are kept unsealed, protected by the file's mode alone", "file", path, "err", err)
		return &sealer{}, nil
	}
	return newSealer(key)
}

// writeKey is durable when it returns: a key that a power cut takes away would take what it sealed with it.
func writeKey(path string, key []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func newSealer(key []byte) (*sealer, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "coracle store record", 2*keySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived[:keySize])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead: aead, mac: derived[keySize:]}, nil
}

// seal gives the whole record. The nonce is a keyed hash of the payload: what is equal seals
// to what is equal, so that nothing is written when nothing changed, and no two payloads share a nonce.
func (s *sealer) seal(payload []byte) []byte {
	if s.aead == nil {
		return encode(payload)
	}
	mac := hmac.New(sha256.New, s.mac)
	mac.Write(payload)
	nonce := mac.Sum(nil)[:nonceSize]
	out := make([]byte, recordHeader, recordHeader+nonceSize+len(payload)+s.aead.Overhead())
	out[0] = sealedVersion
	out = append(out, nonce...)
	out = s.aead.Seal(out, nonce, payload, nil)
	binary.BigEndian.PutUint32(out[1:], crc32.Checksum(out[recordHeader:], castagnoli))
	return out
}

// open is the payload of a sealed record's body.
func (s *sealer) open(body []byte) ([]byte, error) {
	if s.aead == nil {
		return nil, fmt.Errorf("%w: it is sealed, and this node has no key", ErrDamaged)
	}
	if len(body) < nonceSize+s.aead.Overhead() {
		return nil, fmt.Errorf("%w: %d sealed bytes", ErrDamaged, len(body))
	}
	payload, err := s.aead.Open(nil, body[:nonceSize], body[nonceSize:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: sealed with another key than %s", ErrDamaged, KeyFile)
	}
	return payload, nil
}
