package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coracle/agent/store"
	"coracle/agent/volume"
	nodev1 "coracle/proto/node/v1"
)

// A token is kept once, stands in while the control plane is away, and is forgotten with its pod.
func TestTokensStandIn(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(filepath.Join(t.TempDir(), "store.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	away := false
	n := 0
	tok := &tokens{facts: s, log: log, ask: func(_ context.Context, r *nodev1.TokenRequest) (*nodev1.TokenResponse, error) {
		if away {
			return nil, errors.New("not connected")
		}
		n++
		return &nodev1.TokenResponse{Token: strings.Repeat("x", n), ExpirationUnix: 100 + int64(n)}, nil
	}}
	req := volume.TokenRequest{Namespace: "ns", PodName: "p", PodUID: "uid-1", Audiences: []string{"a"}}
	get := func() (string, error) { got, err := tok.Token(t.Context(), req); return got.Token, err }
	for _, want := range []string{"x", "xx"} {
		if got, err := get(); got != want || err != nil {
			t.Fatalf("token %q %v, want %q", got, err, want)
		}
	}
	away = true
	if got, err := get(); got != "x" || err != nil {
		t.Errorf("while away: %q %v, want the first", got, err)
	}
	other := req
	other.Audiences = nil
	if got, err := tok.Token(t.Context(), other); err == nil {
		t.Errorf("a token for another audience was given: %+v", got)
	}

	// Unknown is not absent: nothing is forgotten before the set is complete.
	if err := tok.forget(); err != nil {
		t.Fatal(err)
	}
	if got, _ := get(); got != "x" {
		t.Error("forgotten before the set was complete")
	}
	if err := s.Apply(store.Batch{Complete: true, Put: []store.Object{{Kind: store.KindPod, UID: "uid-1", Namespace: "ns", Name: "p"}}}); err != nil {
		t.Fatal(err)
	}
	if err := tok.forget(); err != nil {
		t.Fatal(err)
	}
	if got, _ := get(); got != "x" {
		t.Error("the token of an assigned pod was forgotten")
	}
	if err := s.DeleteObject(store.Key{Kind: store.KindPod, Namespace: "ns", Name: "p", UID: "uid-1"}); err != nil {
		t.Fatal(err)
	}
	if err := tok.forget(); err != nil {
		t.Fatal(err)
	}
	if got, err := get(); err == nil {
		t.Errorf("the token of a pod that is gone was kept: %q", got)
	}
}

func TestJournal(t *testing.T) {
	j := NewJournal(slog.DiscardHandler)
	log := slog.New(j).With("part", "x")
	log.Info("nothing of note")
	for i := range journalSize + 5 {
		log.Warn("trouble", "n", i)
	}
	got := j.Troubles()
	if len(got) != journalSize || got[0].Message != "trouble part=x n=5" || got[journalSize-1].Message != "trouble part=x n=24" {
		t.Errorf("kept %d: %+v … %+v", len(got), got[0], got[len(got)-1])
	}
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("systemd heard %q %v", buf[:n], err)
	}
}

func TestTrimDebian(t *testing.T) {
	for in, want := range map[string]string{"1.6.20~ds1": "1.6.20", "v2.1.0": "v2.1.0", "1.7.24+b2": "1.7.24", "": ""} {
		if got := trimDebian(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}
