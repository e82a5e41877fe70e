package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openTest(t *testing.T, path string, log *slog.Logger) *Store {
	t.Helper()
	s, err := Open(path, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func podObject(t *testing.T, name, uid, rv string) Object {
	t.Helper()
	data, err := (&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "u-" + "x"}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Object{Kind: KindPod, Namespace: "default", Name: name, UID: uid, ResourceVersion: rv, Data: data}
}

func TestObjectsSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "store.db")
	s := openTest(t, path, quiet())
	a, b := podObject(t, "web", "1", "7"), podObject(t, "web", "2", "8")
	cm := Object{Kind: KindConfigMap, Namespace: "default", Name: "cfg", ResourceVersion: "9"}
	if err := s.Apply(Batch{Put: []Object{a, b, cm}, Complete: true}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path, quiet())
	if diff := cmp.Diff([]Object{a, b}, s.Objects(KindPod)); diff != "" {
		t.Errorf("two pods of one name are two objects (-want +got):\n%s", diff)
	}
	if !s.Complete() {
		t.Error("the mark was lost")
	}
	if len(s.Objects("")) != 3 {
		t.Errorf("all kinds: %v", s.Objects(""))
	}
	if _, ok := s.Pod("2"); !ok {
		t.Error("pod 2 not found by uid")
	}
	if _, ok := s.Pod("3"); ok {
		t.Error("pod 3 found")
	}
	if _, err := s.Get(KindSecret, "default", "cfg"); !errors.Is(err, ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, err %v: the file holds secrets", info.Mode(), err)
	}
}

func TestNothingIsWrittenWhenNothingChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path, quiet())
	a := podObject(t, "web", "1", "7")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	do := func() {
		for _, err := range []error{
			s.Apply(Batch{Put: []Object{a}, Delete: []Key{{Kind: KindPod, Name: "gone"}}, Complete: true}),
			s.PutFact("podrun", "k", []byte("v")),
			s.DeleteFact("podrun", "other"),
			s.DeleteFact("nobody", "other"),
			s.RaiseClockFloor(now),
			s.RaiseClockFloor(now.Add(-1000 * time.Hour)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	do()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Watch()
	do()
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the same state was written again")
	}
	if len(c) != 0 {
		t.Errorf("a watcher was woken: %v", <-c)
	}
	if got := s.ClockFloor(); !got.Equal(now) {
		t.Errorf("clock floor %v, want %v", got, now)
	}
}

func TestFacts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openTest(t, path, quiet())
	for k, v := range map[string]string{"a": "1", "b": "2", "empty": ""} {
		if err := s.PutFact("b", k, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteFact("b", "a", "zzz"); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	s = openTest(t, path, quiet())
	if diff := cmp.Diff(map[string][]byte{"b": []byte("2"), "empty": {}}, s.Facts("b")); diff != "" {
		t.Error(diff)
	}
	if v, ok := s.Fact("b", "empty"); !ok || len(v) != 0 {
		t.Errorf("an empty value is a value: %q %v", v, ok)
	}
	if _, ok := s.Fact("c", "b"); ok {
		t.Error("buckets run into each other")
	}
}

func TestWatchReaderThatIsBehindIsToldToLookAgain(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"), quiet())
	c := s.Watch()
	var b Batch
	for i := range watchBuffer + 10 {
		b.Put = append(b.Put, Object{Kind: KindService, Namespace: "n", Name: fmt.Sprint(i)})
	}
	if err := s.Apply(b); err != nil {
		t.Fatal(err)
	}
	if got := <-c; !got.All {
		t.Errorf("want All first, got %+v", got)
	}
	s.Unwatch(c)
	for range c { // ends: the channel is closed
	}
}

func TestDamage(t *testing.T) {
	fill := func(t *testing.T, path string) {
		s := openTest(t, path, quiet())
		var b Batch
		for i := range 200 {
			b.Put = append(b.Put, podObject(t, fmt.Sprint("pod-", i), fmt.Sprint(i), "1"))
		}
		b.Complete = true
		if err := s.Apply(b); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]func(*testing.T, []byte) []byte{
		"empty":        func(_ *testing.T, b []byte) []byte { return b[:0] },
		"not a store":  func(_ *testing.T, _ []byte) []byte { return []byte(strings.Repeat("hello ", 9000)) },
		"cut short":    func(_ *testing.T, b []byte) []byte { return b[:len(bytes.TrimRight(b, "\x00"))/3] },
		"zeroed":       func(_ *testing.T, b []byte) []byte { return make([]byte, len(b)) },
		"pages zeroed": func(_ *testing.T, b []byte) []byte { clear(b[2*os.Getpagesize():]); return b },
		"one record": func(t *testing.T, b []byte) []byte {
			i := bytes.LastIndex(b, []byte("pod-17"))
			if i < 0 {
				t.Fatal("no such record")
			}
			b[i+3] ^= 0xff
			return b
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			fill(t, path)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(t, data), 0o600); err != nil {
				t.Fatal(err)
			}
			s := openTest(t, path, quiet())
			if s.Complete() {
				t.Error("a set with a hole is called complete: pods would be removed")
			}
			if err := s.Apply(Batch{Put: []Object{podObject(t, "new", "n", "1")}, Complete: true}); err != nil {
				t.Errorf("not usable after the damage: %v", err)
			}
		})
	}
}

// Any single flipped bit must leave a store that opens, works, and either holds exactly
// what was written or no longer claims to be complete.
func TestFlippedBits(t *testing.T) {
	dir := t.TempDir()
	orig := filepath.Join(dir, "orig.db")
	s := openTest(t, orig, quiet())
	var b Batch
	for i := range 30 {
		b.Put = append(b.Put, podObject(t, fmt.Sprint("pod-", i), fmt.Sprint(i), "1"))
	}
	b.Complete = true
	if err := s.Apply(b); err != nil {
		t.Fatal(err)
	}
	want := s.Objects("")
	_ = s.Close()
	data, err := os.ReadFile(orig)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprintf("flip-%d.db", n))
		bit := rapid.IntRange(0, len(data)*8-1).Draw(rt, "bit")
		bad := bytes.Clone(data)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			rt.Fatal(err)
		}
		s, err := Open(path, quiet())
		if err != nil {
			rt.Fatalf("open: %v", err)
		}
		defer os.Remove(path)
		defer s.Close()
		if s.Complete() && !cmp.Equal(want, s.Objects("")) {
			rt.Fatalf("bit %d: complete, but holds %d objects of %d", bit, len(s.Objects("")), len(want))
		}
	})
}

func TestSecondProcessIsToldSo(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the lock")
	}
	path := filepath.Join(t.TempDir(), "store.db")
	openTest(t, path, quiet())
	if _, err := Open(path, quiet()); !errors.Is(err, ErrInUse) {
		t.Errorf("want ErrInUse, got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("a store in use was moved aside: %v", err)
	}
}

func FuzzDecodeObject(f *testing.F) {
	seals, err := newSealer(bytes.Repeat([]byte{7}, keySize))
	if err != nil {
		f.Fatal(err)
	}
	rec, err := seals.encodeObject(Object{Kind: KindPod, Namespace: "a", Name: "b", UID: "c", ResourceVersion: "d", Data: []byte("e")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rec)
	f.Add(seals.seal(rec[recordHeader:]))
	f.Add([]byte{})
	f.Add([]byte{recordVersion, 0, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := seals.decodeObject(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		again, err := seals.encodeObject(o)
		if err != nil {
			t.Fatal(err)
		}
		back, err := seals.decodeObject(again)
		if err != nil || !cmp.Equal(o, back) {
			t.Fatalf("%v: %+v became %+v", err, o, back)
		}
	})
}
