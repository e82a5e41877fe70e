package etcd

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// drainTimeout bounds the wait for calls that are under way when the server closes; each takes milliseconds.
const drainTimeout = 10 * time.Second

// gate counts the calls that are inside the server. etcd waits for those of its own listener before it closes its database;
// one that reads from a closed database ends the process.
//
//	open → closed: calls are refused → drained
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return rpctypes.ErrGRPCStopped
	}
	g.inside.Add(1)
	return nil
}

// close refuses calls from now on, and returns when those inside have left or the time is up.
func (g *gate) close(timeout time.Duration) (drained bool) {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	left := make(chan struct{})
	go func() {
		defer close(left)
		g.inside.Wait()
	}()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-left:
		return true
	case <-timer.C:
		return false
	}
}

// gatedKV is the server's key-value side behind a gate.
type gatedKV struct {
	pb.KVServer
	gate *gate
}

// through makes one call if the gate is open.
func through[Request, Response any](ctx context.Context, g *gate, call func(context.Context, Request) (Response, error), r Request) (Response, error) {
	if err := g.enter(); err != nil {
		var none Response
		return none, err
	}
	defer g.inside.Done()
	return call(ctx, r)
}

func (k gatedKV) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return through(ctx, k.gate, k.KVServer.Range, r)
}

func (k gatedKV) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return through(ctx, k.gate, k.KVServer.Put, r)
}

func (k gatedKV) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return through(ctx, k.gate, k.KVServer.DeleteRange, r)
}

func (k gatedKV) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return through(ctx, k.gate, k.KVServer.Txn, r)
}

func (k gatedKV) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return through(ctx, k.gate, k.KVServer.Compact, r)
}
