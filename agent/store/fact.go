package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

// clockStep is how far the clock floor may fall behind: hours, so that a node at rest does not write for it.
const clockStep = 6 * time.Hour

// PutFact stores a small value durably: when it returns nil, a power cut does not lose it.
// Buckets belong to the part that names them ("podrun", "probe" …). Equal values are not written.
func (s *Store) PutFact(bucket, key string, value []byte) error {
	return s.putFact(bucket, key, encode(value))
}

// PutSecretFact is PutFact of a value that is to be sealed.
func (s *Store) PutSecretFact(bucket, key string, value []byte) error {
	return s.putFact(bucket, key, s.seals.seal(value))
}

func (s *Store) putFact(bucket, key string, rec []byte) error {
	same := false
	err := s.db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket(bucketFacts).Bucket([]byte(bucket)); b != nil {
			same = bytes.Equal(b.Get([]byte(key)), rec)
		}
		return nil
	})
	if err != nil || same {
		return err
	}
	err = s.db.Batch(func(tx *bolt.Tx) error {
		b, err := tx.Bucket(bucketFacts).CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), rec)
	})
	if err != nil {
		return fmt.Errorf("write fact %s/%s to %s: %w", bucket, key, s.path, err)
	}
	return nil
}

// Fact finds a value. One that is damaged is not found, and logged.
func (s *Store) Fact(bucket, key string) ([]byte, bool) {
	var out []byte
	found := false
	err := s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketFacts).Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		rec := b.Get([]byte(key))
		if rec == nil {
			return nil
		}
		v, err := s.seals.decode(rec)
		if err != nil {
			return err
		}
		out, found = bytes.Clone(v), true
		return nil
	})
	if err != nil {
		s.log.Error("fact unreadable", "key", bucket+"/"+key, "err", err)
	}
	return out, found
}

// Facts returns all readable values of a bucket by key.
func (s *Store) Facts(bucket string) map[string][]byte {
	out := map[string][]byte{}
	err := s.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketFacts).Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, rec []byte) error {
			v, err := s.seals.decode(rec)
			if err != nil {
				s.log.Error("fact unreadable", "key", bucket+"/"+string(k), "err", err)
				return nil
			}
			out[string(k)] = bytes.Clone(v)
			return nil
		})
	})
	if err != nil {
		s.log.Error("facts unreadable", "key", bucket, "err", err)
	}
	return out
}

// DeleteFact removes values; keys that are not there are no error and cost no write.
func (s *Store) DeleteFact(bucket string, keys ...string) error {
	there := false
	err := s.db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket(bucketFacts).Bucket([]byte(bucket)); b != nil {
			for _, k := range keys {
				there = there || b.Get([]byte(k)) != nil
			}
		}
		return nil
	})
	if err != nil || !there {
		return err
	}
	err = s.db.Batch(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketFacts).Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		for _, k := range keys {
			if err := b.Delete([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete facts of %s from %s: %w", bucket, s.path, err)
	}
	return nil
}

// ClockFloor is a time that has certainly passed: the clock of a machine without a battery
// starts at 1970, and certificates would look not yet valid. Zero when nothing is known.
func (s *Store) ClockFloor() time.Time {
	var t time.Time
	_ = s.db.View(func(tx *bolt.Tx) error { // fails only on a closed store, which knows nothing
		if v, err := s.seals.decode(tx.Bucket(bucketMeta).Get(keyClock)); err == nil && len(v) == 8 {
			t = time.Unix(int64(binary.BigEndian.Uint64(v)), 0)
		}
		return nil
	})
	return t
}

// RaiseClockFloor remembers that now has passed; it is to be told by somebody whose clock is
// right, not by this machine's. It writes only when the floor lies hours behind, and never lowers it.
func (s *Store) RaiseClockFloor(now time.Time) error {
	if now.Sub(s.ClockFloor()) < clockStep {
		return nil
	}
	var v [8]byte
	binary.BigEndian.PutUint64(v[:], uint64(now.Unix()))
	err := s.db.Batch(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyClock, encode(v[:])) })
	if err != nil {
		return fmt.Errorf("write clock floor to %s: %w", s.path, err)
	}
	return nil
}
