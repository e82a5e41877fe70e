// Package etcd is the door to etcd: it runs the embedded server (the default) or names the external one.
//
// The embedded server is a single member that listens on a unix socket in its own 0700 folder and nowhere else, so that
// no port is taken and file permissions are the whole of its access control. Its settings are for small machines: short
// raft history, small write-ahead-log segments. History is compacted by the API server (every five minutes). The API's storage
// calls the server as a function (Server.NewClient).
//
// Layout under Config.Dir:
//
//	lock         held with flock while a process serves from the folder
//	member/      etcd's own data
//	client.sock  where tools and health checks connect; made anew at each start
//
// Nothing else in the control plane imports etcd's packages.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/server/v3/embed"
)

// ErrInUse says that another process serves from the same data folder.
var ErrInUse = errors.New("data folder is in use by another control plane")

// TLS names the files that prove both sides of the connection to an external etcd. All empty means plain text.
type TLS struct {
	// CAFile verifies the servers; CertFile and KeyFile are the client's own pair. PEM.
	CAFile, CertFile, KeyFile string
}

// Config says which etcd to use.
type Config struct {
	// Dir is the embedded server's data folder. Required without Endpoints; made with mode 0700 when missing.
	Dir string
	// Endpoints are client URLs of an external cluster. When set, nothing is started and Dir is not touched.
	Endpoints []string
	// TLS is used with Endpoints only.
	TLS TLS
	// QuotaBytes bounds the embedded database file. Zero means 2 GiB; past it etcd refuses writes until it is defragmented.
	QuotaBytes int64
	// Log receives the embedded server's warnings and errors. Required.
	Log *slog.Logger
}

// Server is a running or external etcd. Safe for concurrent use.
type Server struct {
	endpoints []string
	tls       TLS
	embedded  *embed.Etcd
	lock      *os.File
	socketDir string
	once      sync.Once
	closing   atomic.Bool
	gate      gate
	log       *slog.Logger
}

// Start runs the embedded server until Close, or checks that one of the external endpoints answers. It returns once
// the server takes writes. ctx bounds the start only.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if len(cfg.Endpoints) > 0 {
		if err := probe(ctx, cfg.Endpoints, cfg.TLS); err != nil {
			return nil, err
		}
		return &Server{endpoints: cfg.Endpoints, tls: cfg.TLS}, nil
	}
	if cfg.Dir == "" {
		return nil, errors.New("embedded etcd needs a data folder, and no external endpoints are configured")
	}
	return startEmbedded(ctx, cfg)
}

// Endpoints are the client URLs the API server connects to.
func (s *Server) Endpoints() []string { return s.endpoints }

// TLS are the files for connecting to an external cluster; zero for the embedded server.
func (s *Server) TLS() TLS { return s.tls }

// Embedded reports whether this process holds the data.
func (s *Server) Embedded() bool { return s.embedded != nil }

// Run blocks until ctx ends (nil) or the embedded server fails.
func (s *Server) Run(ctx context.Context) error {
	if s.embedded == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.embedded.Err():
		return fmt.Errorf("embedded etcd: %w", err)
	}
}

// Close stops the embedded server and waits for it. It may be called more than once.
func (s *Server) Close() {
	s.once.Do(func() {
		if s.embedded == nil {
			return
		}
		s.closing.Store(true)
		if !s.gate.close(drainTimeout) {
			s.log.Warn("etcd closes while requests are under way", "waited", drainTimeout)
		}
		s.embedded.Close()
		<-s.embedded.Server.StopNotify()
		s.abandon()
	})
}
