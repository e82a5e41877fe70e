package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func secretObject(t *testing.T, name, value string) Object {
	t.Helper()
	data, err := (&v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Data: map[string][]byte{"k": []byte(value)}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Object{Kind: KindSecret, Namespace: "ns", Name: name, ResourceVersion: "1", Data: data}
}

// onDisk says whether the file holds these bytes anywhere.
func onDisk(t *testing.T, path, text string) bool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(data, []byte(text))
}

func TestSecretsAreSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path, quiet())
	o := secretObject(t, "s", "open sesame, said the thief")
	cm := Object{Kind: KindConfigMap, Namespace: "ns", Name: "c", Data: []byte("for everybody to read")}
	if err := s.Apply(Batch{Put: []Object{o, cm}, Complete: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutSecretFact("tokens", "k", []byte("a token that nobody reads")); err != nil {
		t.Fatal(err)
	}
	before := mustStat(t, path)
	if err := s.Apply(Batch{Put: []Object{o}}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutSecretFact("tokens", "k", []byte("a token that nobody reads")); err != nil {
		t.Fatal(err)
	}
	if after := mustStat(t, path); after != before {
		t.Error("what had not changed was written again")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"open sesame": false, "a token that": false, "for everybody": true} {
		if onDisk(t, path, text) != want {
			t.Errorf("%q in the file: %v, want %v", text, !want, want)
		}
	}
	if info, err := os.Stat(filepath.Join(filepath.Dir(path), KeyFile)); err != nil || info.Mode().Perm() != 0o600 || info.Size() != keySize {
		t.Errorf("key file: %v %v", info, err)
	}
	s = openTest(t, path, quiet())
	got, ok := s.Secret("ns", "s")
	if !ok || string(got.Data["k"]) != "open sesame, said the thief" || !s.Complete() {
		t.Errorf("read back %v, %v", got, ok)
	}
	if v, ok := s.Fact("tokens", "k"); !ok || string(v) != "a token that nobody reads" {
		t.Errorf("token read back as %q, %v", v, ok)
	}
	if diff := cmp.Diff([]Object{o}, s.Objects(KindSecret)); diff != "" {
		t.Error(diff)
	}
}

func mustStat(t *testing.T, path string) [2]int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return [2]int64{info.ModTime().UnixNano(), info.Size()}
}

// An agent of before wrote Secrets as they are: they are read, and sealed when the store is next opened.
func TestOlderRecordsAreSealed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path, quiet())
	o := secretObject(t, "old", "written long ago")
	rec, err := (&sealer{}).encodeObject(o)
	if err != nil {
		t.Fatal(err)
	}
	put := func(tx *bolt.Tx) error { return tx.Bucket(bucketObjects).Put(o.Key().bytes(), rec) }
	if err := s.db.Update(put); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Secret("ns", "old"); !ok {
		t.Error("an unsealed record is not read")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path, quiet())
	if got, ok := s.Secret("ns", "old"); !ok || string(got.Data["k"]) != "written long ago" {
		t.Errorf("read back %v, %v", got, ok)
	}
	check := func(tx *bolt.Tx) error {
		if v := tx.Bucket(bucketObjects).Get(o.Key().bytes()); v[0] != sealedVersion || bytes.Contains(v, []byte("long ago")) {
			t.Errorf("the record is still open: %q", v)
		}
		return nil
	}
	if err := s.db.View(check); err != nil {
		t.Fatal(err)
	}
}

// Without the key a Secret is as good as damaged: it goes, and with it the mark that the set is complete.
func TestLostKey(t *testing.T) {
	for name, lose := range map[string]func(string) error{
		"gone":      os.Remove,
		"cut short": func(key string) error { return os.Truncate(key, 3) },
		"another":   func(key string) error { return os.WriteFile(key, bytes.Repeat([]byte{1}, keySize), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			s := openTest(t, path, quiet())
			p := podObject(t, "web", "1", "7")
			if err := s.Apply(Batch{Put: []Object{secretObject(t, "s", "v"), p}, Complete: true}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := lose(filepath.Join(filepath.Dir(path), KeyFile)); err != nil {
				t.Fatal(err)
			}
			s = openTest(t, path, quiet())
			if _, ok := s.Secret("ns", "s"); ok || s.Complete() {
				t.Errorf("secret found: %v, complete: %v", ok, s.Complete())
			}
			if len(s.Objects(KindPod)) != 1 {
				t.Error("the pods went with the key")
			}
		})
	}
}

// A key from systemd leaves none on the disk.
func TestCredential(t *testing.T) {
	creds, path := t.TempDir(), filepath.Join(t.TempDir(), "store.db")
	t.Setenv("CREDENTIALS_DIRECTORY", creds)
	key := filepath.Join(creds, credential)
	if err := os.WriteFile(key, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(path, quiet()); err == nil {
		t.Error("a key of five bytes was taken:", s.Close())
	}
	if err := os.WriteFile(key, []byte("a passphrase of the machine's"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, path, quiet())
	if err := s.PutObject(secretObject(t, "s", "v")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), KeyFile)); !os.IsNotExist(err) {
		t.Errorf("a key lies on the disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := openTest(t, path, quiet()).Secret("ns", "s"); !ok {
		t.Error("not read back")
	}
}
