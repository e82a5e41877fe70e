package etcd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func client(t *testing.T, s *Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: s.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestEmbeddedKeepsDataAndRefusesASecondProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	ctx := t.Context()
	s, err := Start(ctx, Config{Dir: dir, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, s).Put(ctx, "/k", "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(ctx, Config{Dir: dir, Log: quiet}); !errors.Is(err, ErrInUse) {
		t.Fatalf("second start: %v, want ErrInUse", err)
	}
	s.Close()
	s.Close()

	s, err = Start(ctx, Config{Dir: dir, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := client(t, s).Get(ctx, "/k")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Fatalf("after restart: %v %v", got, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("data folder: %v %v", info, err)
	}
	// A third server treats this one as external.
	ext, err := Start(ctx, Config{Endpoints: s.Endpoints(), Log: quiet})
	if err != nil || ext.Embedded() {
		t.Fatalf("external: %v %v", ext, err)
	}
	ext.Close()
}

func TestLongPathsGetAShortSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	s, err := Start(t.Context(), Config{Dir: dir, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	socketDir := s.socketDir
	if _, err := client(t, s).Put(t.Context(), "/k", "v"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Stat(socketDir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("socket folder left behind: %v", err)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"nothing":     {Config{}, "needs a data folder"},
		"not a dir":   {Config{Dir: filepath.Join(file, "x")}, "make etcd data folder"},
		"nobody home": {Config{Endpoints: []string{"http://127.0.0.1:1"}}, "no etcd endpoint answers"},
		"no scheme":   {Config{Endpoints: []string{"127.0.0.1:1"}}, "etcd endpoint"},
		"no certs":    {Config{Endpoints: []string{"https://127.0.0.1:1"}}, "no CA or client certificate"},
		"bad files":   {Config{Endpoints: []string{"https://127.0.0.1:1"}, TLS: TLS{CAFile: "/does/not/exist"}}, "load etcd client certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Log = quiet
			_, err := Start(context.Background(), tc.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
		})
	}
}
