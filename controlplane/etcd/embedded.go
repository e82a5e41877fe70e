package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"golang.org/x/sys/unix"
)

const (
	// defaultQuota bounds the database file; an edge cluster with 1,000 pods stays under 100 MB.
	defaultQuota = 2 << 30
	// walSegment is preallocated twice. Upstream's 64 MB would be most of a small disk's free space; the largest single
	// entry is bounded by maxRequest, far below it.
	walSegment = 8 << 20
	// maxRequest follows the API server's limit on request bodies: protobuf of a 3 MB body always fits.
	maxRequest = 3 << 20
	// startTimeout covers replaying the log on a slow SD card.
	startTimeout = 2 * time.Minute
	// maxSocketPath is sun_path's size less the terminating zero (unix(7)).
	maxSocketPath = 107
)

// setSegment sets, once, what etcd keeps in a variable of the process.
var setSegment sync.Once

func startEmbedded(ctx context.Context, cfg Config) (*Server, error) {
	if err := ensureWritable(cfg.Dir); err != nil {
		return nil, err
	}
	lock, err := acquire(filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("open etcd data folder %s: %w", cfg.Dir, err)
	}
	s := &Server{lock: lock, log: cfg.Log}
	socket, err := s.socketPath(cfg.Dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	client := url.URL{Scheme: "unix", Path: socket}
	s.embedded, err = embed.StartEtcd(s.config(cfg, client))
	if err != nil {
		s.abandon()
		return nil, fmt.Errorf("start embedded etcd in %s: %w", cfg.Dir, err)
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-s.embedded.Server.ReadyNotify():
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-s.embedded.Err():
	case <-timeout.C:
		err = fmt.Errorf("not ready after %s", startTimeout)
	}
	if err != nil {
		s.embedded.Close()
		s.abandon()
		return nil, fmt.Errorf("start embedded etcd in %s: %w", cfg.Dir, err)
	}
	s.endpoints = []string{client.String()}
	return s, nil
}

// abandon gives back what is held beside the server itself. The kernel would do the same at the process's end, but for
// the socket's folder, which nobody misses.
func (s *Server) abandon() {
	s.lock.Close()
	if s.socketDir != "" {
		_ = os.RemoveAll(s.socketDir)
	}
}

func (s *Server) config(cfg Config, client url.URL) *embed.Config {
	setSegment.Do(func() { wal.SegmentSizeBytes = walSegment })
	c := embed.NewConfig()
	c.Name = "coracle"
	c.Dir = cfg.Dir
	// A single member never speaks to a peer: no peer listener, and an advertised address that only has to be stable.
	c.ListenPeerUrls = nil
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ListenClientUrls = []url.URL{client}
	c.AdvertiseClientUrls = []url.URL{client}
	c.SnapshotCount = 500
	c.SnapshotCatchUpEntries = 200
	c.MaxSnapFiles = 2
	c.MaxWalFiles = 2
	c.BackendBatchLimit = 100
	c.QuotaBackendBytes = cfg.QuotaBytes
	if c.QuotaBackendBytes == 0 {
		c.QuotaBackendBytes = defaultQuota
	}
	c.MaxRequestBytes = maxRequest
	// A single member waits out one election timeout at each start, and no network can delay its heartbeats.
	c.TickMs, c.ElectionMs = 100, 500
	c.EnableGRPCGateway = false
	// No downgrade monitor and no periodic hash check: both are for clusters of several members.
	c.DowngradeCheckTime = 0
	// Warn past what a shared SD card does in ordinary use.
	c.WarningApplyDuration = 2 * time.Second
	c.WarningUnaryRequestDuration = 5 * time.Second
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(cfg.Log.With("part", "etcd"), &s.closing))
	return c
}

// ensureWritable makes dir (0700) and proves that a file can be written there, because etcd panics where it cannot.
func ensureWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make etcd data folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("restrict etcd data folder to its owner: %w", err)
	}
	f, err := os.CreateTemp(dir, ".writable-")
	if err != nil {
		return fmt.Errorf("etcd data folder %s is not writable (wrong owner, read-only or full disk): %w", dir, err)
	}
	_, err = f.WriteString("x")
	if err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("etcd data folder %s is not writable (wrong owner, read-only or full disk): %w", dir, err)
	}
	return nil
}

// acquire takes the folder's lock without waiting: etcd itself would wait for ever and say nothing. The kernel drops
// the lock when the process dies, however it dies.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// socketPath is in the data folder, or in a private temporary folder when the path would not fit into a sockaddr.
func (s *Server) socketPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolve etcd data folder: %w", err)
	}
	path := filepath.Join(abs, "client.sock")
	if len(path) > maxSocketPath {
		if s.socketDir, err = os.MkdirTemp("", "coracle-etcd-"); err != nil {
			return "", fmt.Errorf("make a folder for etcd's socket: %w", err)
		}
		path = filepath.Join(s.socketDir, "client.sock")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("remove etcd's stale socket: %w", err)
	}
	return path, nil
}
