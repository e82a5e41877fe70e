package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"

	"coracle/controlplane/etcd/clientlog"
)

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestEtcdClientsLogHere: the one logger that the library gives all its clients of etcd is ours.
func TestEtcdClientsLogHere(t *testing.T) {
	var log lines
	clientlog.To(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { clientlog.To(testLog()) })
	socket := filepath.Join(t.TempDir(), "etcd.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ailing := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return status.Error(codes.Unavailable, "etcdserver: no leader")
	}))
	served := make(chan error, 1)
	go func() { served <- ailing.Serve(l) }()
	defer func() {
		ailing.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	config := storagebackend.NewDefaultConfig("/registry", nil)
	config.Transport.ServerList = []string{"unix://" + socket}
	prober, err := factory.CreateProber(*config)
	if err != nil {
		t.Fatal(err)
	}
	defer prober.Close()
	eventually(t, "the client tells what is wrong", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := prober.Probe(ctx); err == nil {
			return errors.New("an etcd without a leader answers")
		}
		if !strings.Contains(log.String(), "etcdserver: no leader") {
			return fmt.Errorf("logged %q", log.String())
		}
		return nil
	})
	if n := strings.Count(log.String(), "level=WARN"); n > 3 {
		t.Errorf("%d warnings in a moment:\n%s", n, log.String())
	}
}

func TestTriesToConnectAreNotTold(t *testing.T) {
	var log lines
	quiet := slog.New(quieter{slog.NewTextHandler(&log, nil)})
	quiet.Warn(`[core] [Channel #1 SubChannel #2] ` + reconnects + ` to {Addr: "unix:///run/etcd.sock"}`)
	quiet.Info("a controller starts")
	quiet.Warn("something else")
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "something else") {
		t.Errorf("logged\n%s", got)
	}
}
