package etcd

import (
	"testing"
	"time"

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

func TestNoClientInTheProcessOfAnExternalEtcd(t *testing.T) {
	if (&Server{endpoints: []string{"http://10.0.0.1:2379"}}).NewClient() != nil {
		t.Error("there is no server to call")
	}
}
