package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	nodev1 "coracle/proto/node/v1"
)

// recordVersion is the first byte of every record that is not sealed. A newer agent that writes another
// layout writes another number; an older one then drops the record and asks for it again.
const recordVersion = 1

const recordHeader = 5 // version, CRC-32C of the payload

// ErrDamaged says that a record's bytes are not what was written.
var ErrDamaged = errors.New("damaged record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(payload []byte) []byte {
	out := make([]byte, recordHeader, recordHeader+len(payload))
	out[0] = recordVersion
	binary.BigEndian.PutUint32(out[1:], crc32.Checksum(payload, castagnoli))
	return append(out, payload...)
}

// decode returns the payload, of a record that is not sealed as a part of b, which belongs to the transaction.
func (s *sealer) decode(b []byte) ([]byte, error) {
	if len(b) < recordHeader {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	if b[0] != recordVersion && b[0] != sealedVersion {
		return nil, fmt.Errorf("%w: version %d, this agent reads %d and %d", ErrDamaged, b[0], recordVersion, sealedVersion)
	}
	payload := b[recordHeader:]
	if got, want := crc32.Checksum(payload, castagnoli), binary.BigEndian.Uint32(b[1:]); got != want {
		return nil, fmt.Errorf("%w: checksum %08x, written as %08x", ErrDamaged, got, want)
	}
	if b[0] == sealedVersion {
		return s.open(payload)
	}
	return payload, nil
}

func (s *sealer) encodeObject(o Object) ([]byte, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(&nodev1.Object{
		Kind: o.Kind, Uid: o.UID, ResourceVersion: o.ResourceVersion, Namespace: o.Namespace, Name: o.Name, Data: o.Data,
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.Key(), err)
	}
	if o.Kind == KindSecret {
		return s.seal(payload), nil
	}
	return encode(payload), nil
}

func (s *sealer) decodeObject(b []byte) (Object, error) {
	payload, err := s.decode(b)
	if err != nil {
		return Object{}, err
	}
	var m nodev1.Object
	if err := proto.Unmarshal(payload, &m); err != nil {
		return Object{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return Object{Kind: m.Kind, UID: m.Uid, ResourceVersion: m.ResourceVersion, Namespace: m.Namespace, Name: m.Name, Data: m.Data}, nil
}
