package store

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// ErrNotFound says that the store holds no such object.
var ErrNotFound = errors.New("not found")

// Object is one API object as the control plane assigned it.
type Object struct {
	Kind      string // "Pod", "ConfigMap", "Secret", "Service", "Node"; kinds this agent does not know are kept
	UID       string
	Namespace string
	Name      string
	// ResourceVersion names this state of the object to the gateway; opaque here.
	ResourceVersion string
	Data            []byte // protobuf of the k8s.io/api type, no envelope
	// Local objects are the node's own (SetLocal): the control plane knows nothing of them. Never stored.
	Local bool
}

// Key names an object. Pods are told apart by UID too: a pod may be assigned while an older one of the same name is still being taken down.
type Key struct{ Kind, Namespace, Name, UID string }

// Key names o.
func (o Object) Key() Key {
	k := Key{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
	if o.Kind == KindPod {
		k.UID = o.UID
	}
	return k
}

func (k Key) String() string {
	s := strings.ToLower(k.Kind) + " " + k.Name
	if k.Namespace != "" {
		s = strings.ToLower(k.Kind) + " " + k.Namespace + "/" + k.Name
	}
	if k.UID != "" {
		s += " (" + k.UID + ")"
	}
	return s
}

func (k Key) bytes() []byte {
	return []byte(k.Kind + "\x00" + k.Namespace + "\x00" + k.Name + "\x00" + k.UID)
}

func prefix(kind string) []byte { return []byte(kind + "\x00") }

// Batch is a set of changes that are made in one transaction, durable when Apply returns.
type Batch struct {
	Put    []Object
	Delete []Key
	// Complete says that with this batch the set is all that concerns the node.
	Complete bool
}

// Apply makes the changes, in the order deletions, puts, mark. Watchers hear of what really changed.
func (s *Store) Apply(b Batch) error {
	todo, err := s.changed(b)
	if err != nil || todo.empty() {
		return err
	}
	var changes []Change
	err = s.db.Update(func(tx *bolt.Tx) error {
		changes = changes[:0]
		objects := tx.Bucket(bucketObjects)
		for _, k := range todo.Delete {
			if old, err := s.seals.decodeObject(objects.Get(k.bytes())); err == nil {
				changes = append(changes, Change{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, UID: old.UID, Removed: true})
			}
			if err := objects.Delete(k.bytes()); err != nil {
				return fmt.Errorf("delete %s: %w", k, err)
			}
		}
		for _, o := range todo.Put {
			rec, err := s.seals.encodeObject(o)
			if err != nil {
				return err
			}
			if err := objects.Put(o.Key().bytes(), rec); err != nil {
				return fmt.Errorf("put %s: %w", o.Key(), err)
			}
			changes = append(changes, Change{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, UID: o.UID})
		}
		if todo.Complete {
			changes = append(changes, Change{Completed: true})
			return tx.Bucket(bucketMeta).Put(keyComplete, encode([]byte{1}))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write store %s: %w", s.path, err)
	}
	s.notify(changes)
	return nil
}

func (b Batch) empty() bool { return len(b.Put) == 0 && len(b.Delete) == 0 && !b.Complete }

// changed leaves out what the store holds already.
func (s *Store) changed(b Batch) (Batch, error) {
	var todo Batch
	err := s.db.View(func(tx *bolt.Tx) error {
		objects := tx.Bucket(bucketObjects)
		gone := map[Key]bool{}
		for _, k := range b.Delete {
			gone[k] = true
			if objects.Get(k.bytes()) != nil {
				todo.Delete = append(todo.Delete, k)
			}
		}
		for _, o := range b.Put {
			rec, err := s.seals.encodeObject(o)
			if err != nil {
				return err
			}
			if gone[o.Key()] || !bytes.Equal(objects.Get(o.Key().bytes()), rec) {
				todo.Put = append(todo.Put, o)
			}
		}
		todo.Complete = b.Complete && tx.Bucket(bucketMeta).Get(keyComplete) == nil
		return nil
	})
	return todo, err
}

// PutObject is Apply of one object.
func (s *Store) PutObject(o Object) error { return s.Apply(Batch{Put: []Object{o}}) }

// DeleteObject is Apply of one deletion; deleting what is not there is no error.
func (s *Store) DeleteObject(k Key) error { return s.Apply(Batch{Delete: []Key{k}}) }

// SetComplete marks the set as all that concerns the node.
func (s *Store) SetComplete() error { return s.Apply(Batch{Complete: true}) }

// Complete says whether this store has ever held all that concerns the node. While it is
// false, what the store does not name must not be removed.
func (s *Store) Complete() bool {
	complete := false
	_ = s.db.View(func(tx *bolt.Tx) error { // a read transaction fails only on a closed store, where false is the safe answer
		complete = tx.Bucket(bucketMeta).Get(keyComplete) != nil
		return nil
	})
	return complete
}

// Objects returns all objects of a kind, ordered by namespace, name and uid, and then the local ones. An empty kind means
// every kind, and only what the control plane assigned.
func (s *Store) Objects(kind string) []Object {
	var out []Object
	p := prefix(kind)
	if kind == "" {
		p = nil
	}
	s.scan(p, func(o Object) { out = append(out, o) })
	return append(out, s.locals(kind)...)
}

// Get returns one object, or ErrNotFound. Of several pods of that name it returns the one
// that sorts last by uid; ask for a pod by its uid with Pod.
func (s *Store) Get(kind, namespace, name string) (Object, error) {
	var found *Object
	s.scan([]byte(kind+"\x00"+namespace+"\x00"+name+"\x00"), func(o Object) { found = &o })
	if found == nil {
		return Object{}, fmt.Errorf("%s: %w", Key{Kind: kind, Namespace: namespace, Name: name}, ErrNotFound)
	}
	return *found, nil
}

// scan calls f with a copy of each readable object under the prefix. A record that turned
// bad since the file was opened is skipped and logged: open drops it and clears the mark.
func (s *Store) scan(prefix []byte, f func(Object)) { s.scanKeys(prefix, nil, f) }

// scanKeys is scan of the keys that also end with suffix; others are not decoded.
func (s *Store) scanKeys(prefix, suffix []byte, f func(Object)) {
	err := s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketObjects).Cursor()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if !bytes.HasSuffix(k, suffix) {
				continue
			}
			o, err := s.seals.decodeObject(v)
			if err != nil {
				s.log.Error("record unreadable", "key", fmt.Sprintf("%q", k), "err", err)
				continue
			}
			f(o)
		}
		return nil
	})
	if err != nil && !errors.Is(err, bolt.ErrDatabaseNotOpen) {
		s.log.Error("store unreadable", "err", err)
	}
}
