// Package store is what the node remembers across restarts and power cuts, in one bbolt file.
//
// It owns the objects the control plane has assigned to this node, the mark that this set
// was once complete, the objects that the node assigns to itself (in memory only), facts of other parts that cannot be read back from the world, and the
// clock floor. It does not decide anything and does not talk to anybody.
//
// Layout, one bucket each:
//
//	objects   KIND \0 NAMESPACE \0 NAME \0 UID   → record of a nodev1.Object
//	facts/B   KEY                                → record of the bytes given to PutFact(B, KEY, …)
//	meta      complete, clock                    → record of 8 bytes, big endian
//
// A record is one byte of version, a CRC-32C and the payload; of a Secret and of a service-account
// token the payload is sealed with a key of the node, see seal.go. Invariants:
//   - nothing is written when nothing changed, so a node at rest writes nothing;
//   - a record that cannot be read is dropped and the set is no longer complete, so that
//     nothing is removed from the node before the control plane has named the whole set again;
//   - a file that cannot be read is moved aside and a new one begun.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse says that another process holds the file.
var ErrInUse = errors.New("the store is in use by another process")

// openTimeout bounds the wait for the file's lock: an agent that was just told to stop needs a moment to let go.
const openTimeout = 2 * time.Second

var (
	bucketObjects = []byte("objects")
	bucketFacts   = []byte("facts")
	bucketMeta    = []byte("meta")
	keyComplete   = []byte("complete")
	keyClock      = []byte("clock")
)

// Store is safe for concurrent use.
type Store struct {
	db    *bolt.DB
	path  string
	log   *slog.Logger
	seals *sealer

	mu         sync.Mutex
	watchers   map[chan Change]struct{}
	local      map[Key]Object
	localWhole bool
}

// Open opens the file at path, making it and its directory where they are missing. A file
// that is damaged is renamed to PATH.corrupt-TIME and a new one begun, which is logged; the
// error is about a file that can be neither used nor moved, or is ErrInUse.
func Open(path string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the store: %w", err)
	}
	seals, err := loadSealer(filepath.Dir(path), log)
	if err != nil {
		return nil, err
	}
	s, err := open(path, seals, log)
	if err == nil || errors.Is(err, ErrInUse) || errors.Is(err, fs.ErrPermission) {
		return s, err
	}
	aside := fmt.Sprintf("%s.corrupt-%s", path, time.Now().UTC().Format("20060102T150405.000000000"))
	if mvErr := os.Rename(path, aside); mvErr != nil {
		return nil, fmt.Errorf("open store %s: %w; moving it aside: %w", path, err, mvErr)
	}
	log.Error("the store was damaged and has been moved aside; it is rebuilt from containerd and the control plane, and nothing is removed before that",
		"file", path, "moved", aside, "err", err)
	return open(path, seals, log)
}

// open verifies the file read-only before opening it for writing: opening for writing has
// bbolt walk the pages in a goroutine of its own, where a fault could not be caught.
func open(path string, seals *sealer, log *slog.Logger) (*Store, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		if err := verify(path); err != nil {
			return nil, err
		}
	}
	s := &Store{path: path, log: log, seals: seals, watchers: map[chan Change]struct{}{}}
	err := guard(path, &bolt.Options{
		Timeout:        openTimeout,
		NoFreelistSync: true, // one page less per transaction; the list is rebuilt when opening
		FreelistType:   bolt.FreelistMapType,
	}, func(db *bolt.DB) error {
		// Workers of many pods write at the same moment: a short wait lets them share one sync.
		db.MaxBatchDelay = 2 * time.Millisecond
		s.db = db
		return s.prepare()
	})
	if err != nil {
		return nil, err
	}
	if err := reserve(path); err != nil {
		// The disk is full already, or its file system cannot reserve (FAT): the file grows as it is written.
		log.Warn("the store has no room of its own; with a full disk the node could not be told of changes", "err", err)
	}
	return s, nil
}

// verify reads every page once; the file of a node is small.
func verify(path string) error {
	var done *bolt.DB
	err := guard(path, &bolt.Options{Timeout: openTimeout, ReadOnly: true}, func(db *bolt.DB) error {
		done = db
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("stat store: %w", err)
		}
		return db.View(func(tx *bolt.Tx) error {
			if info.Size() < tx.Size() {
				return fmt.Errorf("store %s is cut short: %d bytes of %d", path, info.Size(), tx.Size())
			}
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return walk(name, b) })
		})
	})
	if err != nil {
		return err
	}
	return done.Close()
}

// guard opens the file and calls f. bbolt maps the file and trusts what it finds there: a
// page number out of range or a short file shows as a fault or a panic, which becomes an
// error here. The database is closed where there is an error, but not after a panic: a
// goroutine of bbolt's may still be walking the map, and unmapping it would crash the process.
func guard(path string, opts *bolt.Options, f func(*bolt.DB) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var db *bolt.DB
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read store %s: %v", path, r)
		} else if err != nil && db != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	db, err = bolt.Open(path, 0o600, opts)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("open store %s: %w; is another agent running with this state directory?", path, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	return f(db)
}

// walk reads a bucket's every key and looks each up again, as a damaged branch hides keys from a look-up.
func walk(name []byte, b *bolt.Bucket) error {
	var last []byte
	return b.ForEach(func(k, v []byte) error {
		if last != nil && bytes.Compare(last, k) >= 0 {
			return fmt.Errorf("bucket %s: keys out of order at %q", name, k)
		}
		last = k
		if v != nil && !bytes.Equal(b.Get(k), v) {
			return fmt.Errorf("bucket %s: key %q is not found", name, k)
		}
		if v == nil {
			child := b.Bucket(k)
			if child == nil {
				return fmt.Errorf("bucket %s holds neither a value nor a bucket under %q", name, k)
			}
			return walk(k, child)
		}
		return nil
	})
}

// prepare makes the buckets, drops records that cannot be read, and seals Secrets that an older agent wrote.
func (s *Store) prepare() error {
	missing := false
	var bad [][]byte
	var plain []Object
	err := s.db.View(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketObjects, bucketFacts, bucketMeta} {
			if tx.Bucket(name) == nil {
				missing = true
			}
		}
		objects := tx.Bucket(bucketObjects)
		if objects == nil {
			return nil
		}
		return objects.ForEach(func(k, v []byte) error {
			o, err := s.seals.decodeObject(v)
			if err == nil && o.Kind == KindSecret && v[0] != sealedVersion && s.seals.aead != nil {
				plain = append(plain, o)
			}
			if err != nil {
				s.log.Error("a record of the store was damaged and is dropped; the control plane will send it again", "key", fmt.Sprintf("%q", k), "err", err)
				bad = append(bad, append([]byte(nil), k...))
			}
			return nil
		})
	})
	if err != nil || (!missing && len(bad) == 0 && len(plain) == 0) {
		return err
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketObjects, bucketFacts, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return fmt.Errorf("make bucket %s: %w", name, err)
			}
		}
		for _, o := range plain {
			rec, err := s.seals.encodeObject(o)
			if err != nil {
				return err
			}
			if err := tx.Bucket(bucketObjects).Put(o.Key().bytes(), rec); err != nil {
				return fmt.Errorf("seal %s: %w", o.Key(), err)
			}
		}
		for _, k := range bad {
			if err := tx.Bucket(bucketObjects).Delete(k); err != nil {
				return fmt.Errorf("drop damaged record: %w", err)
			}
		}
		if len(bad) > 0 {
			return tx.Bucket(bucketMeta).Delete(keyComplete)
		}
		return nil
	})
}

// Close lets go of the file. Channels given out by Watch are closed.
func (s *Store) Close() error {
	s.mu.Lock()
	for c := range s.watchers {
		close(c)
	}
	s.watchers = map[chan Change]struct{}{}
	s.mu.Unlock()
	return s.db.Close()
}

// Run moves the clock floor along with time that certainly passes while the process runs,
// until ctx ends. It does not look at the clock of the machine, which may be years ahead.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(clockStep)
	defer t.Stop()
	for floor := s.ClockFloor(); ; floor = s.ClockFloor() {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if floor.IsZero() {
			continue
		}
		if err := s.RaiseClockFloor(floor.Add(clockStep)); err != nil {
			s.log.Warn("clock floor not written", "err", err)
		}
	}
}
