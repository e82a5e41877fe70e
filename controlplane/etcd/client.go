package etcd

import (
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Client is what the API server's storage speaks to etcd through.
type Client = kubernetes.Client

// NewClient makes clients that call the embedded server as a function; nil where etcd is elsewhere. A client over the socket
// costs 200 kB and several goroutines for its connection, and encodes and decodes each object on both sides of it. The
// caller closes its clients before the server.
func (s *Server) NewClient() func() *Client {
	if s.embedded == nil {
		return nil
	}
	return func() *Client {
		c := &Client{Client: v3client.New(s.embedded.Server)}
		c.Kubernetes = c
		return c
	}
}
