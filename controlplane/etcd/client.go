package etcd

import (
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
)

// Client is what the API server's storage speaks to etcd through.
type Client = kubernetes.Client

// NewClient makes clients that call the embedded server as a function; nil where etcd is elsewhere. A client over the socket
// costs 200 kB and several goroutines for its connection, and encodes and decodes each object on both sides of it. The
// caller closes its clients before the server; what they still ask while it closes is refused.
func (s *Server) NewClient() func() *Client {
	if s.embedded == nil {
		return nil
	}
	kv := adapter.KvServerToKvClient(gatedKV{v3rpc.NewQuotaKVServer(s.embedded.Server), &s.gate})
	return func() *Client {
		c := &Client{Client: v3client.New(s.embedded.Server)}
		c.KV = clientv3.NewKVFromKVClient(kv, c.Client)
		c.Kubernetes = c
		return c
	}
}
