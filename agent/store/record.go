package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	nodev1 "coracle/proto/node/v1"
)

// recordVersion is the first byte of every record. A newer agent that writes another
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

// decode returns the payload as a part of b, which belongs to the transaction.
func decode(b []byte) ([]byte, error) {
	if len(b) < recordHeader {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	if b[0] != recordVersion {
		return nil, fmt.Errorf("%w: version %d, this agent reads %d", ErrDamaged, b[0], recordVersion)
	}
	payload := b[recordHeader:]
	if got, want := crc32.Checksum(payload, castagnoli), binary.BigEndian.Uint32(b[1:]); got != want {
		return nil, fmt.Errorf("%w: checksum %08x, written as %08x", ErrDamaged, got, want)
	}
	return payload, nil
}

func encodeObject(o Object) ([]byte, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(&nodev1.Object{
		Kind: o.Kind, Uid: o.UID, ResourceVersion: o.ResourceVersion, Namespace: o.Namespace, Name: o.Name, Data: o.Data,
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.Key(), err)
	}
	return encode(payload), nil
}

func decodeObject(b []byte) (Object, error) {
	payload, err := decode(b)
	if err != nil {
		return Object{}, err
	}
	var m nodev1.Object
	if err := proto.Unmarshal(payload, &m); err != nil {
		return Object{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return Object{Kind: m.Kind, UID: m.Uid, ResourceVersion: m.ResourceVersion, Namespace: m.Namespace, Name: m.Name, Data: m.Data}, nil
}
