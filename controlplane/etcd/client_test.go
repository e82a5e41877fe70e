package etcd

import (
	"context"
	"errors"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

func TestClientInTheProcess(t *testing.T) {
	s, err := Start(t.Context(), Config{Dir: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	newClient := s.NewClient()
	c, other := newClient(), newClient()
	defer c.Close()
	watch := other.Watch(t.Context(), "/registry/", clientv3.WithPrefix())
	put, err := c.Kubernetes.OptimisticPut(t.Context(), "/registry/a", []byte("1"), 0, kubernetes.PutOptions{})
	if err != nil || !put.Succeeded {
		t.Fatalf("create: %v, %v", put, err)
	}
	if put, err = c.Kubernetes.OptimisticPut(t.Context(), "/registry/a", []byte("2"), 0, kubernetes.PutOptions{GetOnFailure: true}); err != nil || put.Succeeded || string(put.KV.Value) != "1" {
		t.Errorf("a second create: %v, %v", put, err)
	}
	select {
	case got := <-watch:
		if len(got.Events) != 1 || string(got.Events[0].Kv.Value) != "1" {
			t.Errorf("watched %v", got)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the other client's watch saw nothing")
	}
	// Each has its own end.
	other.Close()
	if got, err := c.Kubernetes.Get(t.Context(), "/registry/a", kubernetes.GetOptions{}); err != nil || string(got.KV.Value) != "1" {
		t.Errorf("after another client was closed: %v, %v", got, err)
	}
}

// Requests come in while the server closes: they end, and the process does not.
func TestCloseUnderRequests(t *testing.T) {
	s, err := Start(t.Context(), Config{Dir: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	c := s.NewClient()()
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var asking sync.WaitGroup
	var answered atomic.Int64
	for range 16 {
		asking.Go(func() {
			for {
				if _, err := c.Client.Get(ctx, "/registry/", clientv3.WithPrefix()); err != nil {
					if !errors.Is(err, rpctypes.ErrStopped) {
						t.Errorf("while it closes: %v", err)
					}
					return
				}
				answered.Add(1)
			}
		})
	}
	for answered.Load() < 100 && ctx.Err() == nil {
		goruntime.Gosched()
	}
	s.Close()
	asking.Wait()
	if ctx.Err() != nil {
		t.Error("requests went on for a minute")
	}
}

func TestGate(t *testing.T) {
	var g gate
	if err := g.enter(); err != nil {
		t.Fatal(err)
	}
	if g.close(time.Millisecond) {
		t.Error("drained with a call inside")
	}
	if err := g.enter(); !errors.Is(err, rpctypes.ErrGRPCStopped) {
		t.Errorf("entered a closed gate: %v", err)
	}
	g.inside.Done()
	if !g.close(time.Minute) {
		t.Error("not drained with no call inside")
	}
}

func TestNoClientInTheProcessOfAnExternalEtcd(t *testing.T) {
	if (&Server{endpoints: []string{"http://10.0.0.1:2379"}}).NewClient() != nil {
		t.Error("there is no server to call")
	}
}
