// Package cni attaches pods to the network by running CNI plugins through libcni. It is the
// only door to CNI.
//
// It owns which conflist is used, the agent's own conflist where an administrator gave none,
// the record of every attachment, and the clean-up of attachments whose pod is gone. ADD of the
// own conflist, unedited, runs in this process instead of by its plugins (native.go). It does
// not make network namespaces (agent/runtime pins them) and holds no service rules.
//
// On disk, below CacheDir:
//
//	attachments/UID.json           what is about to be attached, written before ADD
//	results/NETWORK-UID-eth0       libcni's own cache, written after ADD
//
// So after kill -9 at any instruction the two files tell how far an ADD came: neither, nothing
// happened; only the first, the plugins may have done anything, and DEL comes before the
// next ADD; both, the namespace is looked into and the result is either still true or undone.
// The record keeps the conflist that was used, hence a pod is always detached by the plugins
// that attached it, whatever the folder says by then. CacheDir must survive a reboot: address
// leases of plugins do.
package cni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/types"
)

// Interface is the name of the pod's link inside its namespace.
const Interface = "eth0"

const (
	// addTimeout covers a plugin that asks a DHCP server or an API; a local chain takes 0.3 s.
	addTimeout = 60 * time.Second
	// delTimeout is shorter: a DEL that hangs holds up the pod's removal and is tried again.
	delTimeout = 30 * time.Second
)

// ErrNotReady is returned while there is no network to attach to.
var ErrNotReady = errors.New("no CNI network is configured")

// Config is what New needs.
type Config struct {
	ConfDir  string   // required: where conflists are
	BinDirs  []string // required: where plugins are
	CacheDir string   // required: durable, this agent's alone
	// RunDir holds the address leases of the agent's own conflist; not durable, this agent's alone. Required.
	RunDir   string
	Own      Own // the agent's own conflist; zero File: never write one
	Parallel int // chains that may run at once; 0: 4
	Log      *slog.Logger
}

// CNI attaches and detaches pods. It is safe for concurrent use.
type CNI struct {
	cfg    Config
	lib    *libcni.CNIConfig
	slots  *semaphore.Weighted
	bootID string

	busy keyed // one operation at a time for each pod

	mu    sync.Mutex
	own   Own
	conf  loaded
	known map[types.UID]known // attached pods, as read from disk and kept in step with it
}

// New reads the records that an earlier agent left. A record that cannot be read is moved
// aside and said so; libcni's cache then stands in for it.
func New(cfg Config) (*CNI, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Parallel <= 0 {
		cfg.Parallel = 4
	}
	for _, d := range []string{filepath.Join(cfg.CacheDir, "attachments"), filepath.Join(cfg.CacheDir, "results")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make CNI cache: %w", err)
		}
	}
	c := &CNI{
		cfg:    cfg,
		slots:  semaphore.NewWeighted(int64(cfg.Parallel)),
		bootID: readBootID(),
		own:    cfg.Own,
		known:  map[types.UID]known{},
	}
	c.lib = libcni.NewCNIConfigWithCacheDir(cfg.BinDirs, cfg.CacheDir, &pluginExec{c, invoke.DefaultExec{
		// What a plugin says on stderr comes back in its error; it does not belong in the agent's journal.
		RawExec:       &invoke.RawExec{Stderr: io.Discard},
		PluginDecoder: version.PluginDecoder{},
	}})
	if err := c.readRecords(); err != nil {
		return nil, err
	}
	return c, nil
}

// pluginExec runs plugins, but does by itself what nativeADD can. Plugins get one core each: nearly all are Go programs that live for milliseconds, and threads that
// they start and end at once cost more than what they do. Where the agent's environment says otherwise, that holds.
type pluginExec struct {
	cni *CNI
	invoke.DefaultExec
}

// ExecPlugin implements invoke.Exec.
func (e *pluginExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	if result, done, err := e.cni.nativeADD(path, stdin, environ); done {
		return result, err
	}
	if !slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, "GOMAXPROCS=") }) {
		environ = append(slices.Clip(environ), "GOMAXPROCS=1")
	}
	return e.DefaultExec.ExecPlugin(ctx, path, stdin, environ)
}

// Ready says whether a pod could be attached now: a conflist is there and its plugins are.
// The error names the folders that were looked into and what to do.
func (c *CNI) Ready() error {
	list, err := c.network()
	if err != nil {
		return err
	}
	var missing []error
	for _, p := range list.Plugins {
		for _, name := range pluginBinaries(p) {
			if _, err := invoke.FindInPath(name, c.cfg.BinDirs); err != nil {
				missing = append(missing, fmt.Errorf("CNI plugin %q of network %q is not in %v: install the containernetworking-plugins package or set cni.binDirs", name, list.Name, c.cfg.BinDirs))
			}
		}
	}
	return errors.Join(missing...)
}

// Status asks the plugins whether they could attach a pod, where they can answer (CNI 1.1.0).
// It runs processes; call it at start and on change, not often.
func (c *CNI) Status(ctx context.Context) error {
	if err := c.Ready(); err != nil {
		return err
	}
	list, err := c.network()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	if err := c.lib.GetStatusNetworkList(ctx, list); err != nil {
		return fmt.Errorf("status of network %q: %w", list.Name, err)
	}
	return nil
}

// Network names the network that the next pod is attached to; empty while there is none.
func (c *CNI) Network() string {
	list, err := c.network()
	if err != nil {
		return ""
	}
	return list.Name
}

// Attached lists the pods that hold, or may hold, an attachment.
func (c *CNI) Attached(context.Context) ([]types.UID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]types.UID, 0, len(c.known))
	for uid := range c.known {
		out = append(out, uid)
	}
	return out, nil
}

// acquire bounds how many chains run.
func (c *CNI) acquire(ctx context.Context) (release func(), err error) {
	if err := c.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { c.slots.Release(1) }, nil
}

// keyed is a lock for each key that exists only while somebody holds or waits for it.
type keyed struct {
	mu sync.Mutex
	m  map[types.UID]*keyedLock
}

type keyedLock struct {
	mu    sync.Mutex
	users int
}

func (k *keyed) lock(key types.UID) (unlock func()) {
	k.mu.Lock()
	if k.m == nil {
		k.m = map[types.UID]*keyedLock{}
	}
	l := k.m[key]
	if l == nil {
		l = &keyedLock{}
		k.m[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.m, key)
		}
	}
}
