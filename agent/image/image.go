// Package image keeps container images in containerd: it resolves names, pulls with resume,
// reads configurations, lists what is stored and frees disk space. With agent/runtime it is
// the only package that knows containerd.
//
// It does not decide when to pull again (podrun backs off) nor which secrets apply to a pod.
// Invariants: an image that Ensure returned is whole and unpacked; what a cut pull has
// downloaded stays under a lease of the pull's own for a day, so the next try continues it,
// blob by blob and byte by byte; image records in containerd are what protects content and
// snapshots from its garbage collection.
package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerdlog "github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"coracle/internal/fault"
)

// Config is what Images needs. Address, Namespace and Log are required.
type Config struct {
	Address      string        // containerd's socket
	Namespace    string        // containerd's namespace, "coracle"
	Snapshotter  string        // default overlayfs where the kernel has it, else native
	HostsDir     string        // registries' certs.d; default /etc/containerd/certs.d
	MaxParallel  int           // pulls at a time; default 3
	StallTimeout time.Duration // a registry that sends nothing this long fails the pull; default 60 s
	DiskPath     string        // on the file system that holds images; default: where containerd says that it unpacks them
	GC           Thresholds    // when Collect removes images
	Pinned       []string      // names that Collect keeps
	// Providers are asked for credentials beside those of a request; may be nil.
	Providers *Providers
	// LoginFile is a docker config.json with the node's own credentials, read at each pull; it need not exist. Empty: none.
	LoginFile string
	Log       *slog.Logger
}

// Image is one image that containerd holds, with what a container needs of its configuration.
// The value is shared and must not be changed.
type Image struct {
	Ref        string // normalised name it was asked by
	ID         string // digest of its configuration, "sha256:…"
	RepoDigest string // "REPO@sha256:…"; empty where it came without a registry's digest
	Size       int64  // compressed bytes of configuration and layers

	User       string
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	StopSignal string

	// ChainID names the snapshot of all layers, the parent of a container's own.
	ChainID string
}

// Images is the node's image store. Safe for concurrent use.
type Images struct {
	cfg    Config
	client *containerd.Client
	slots  *semaphore.Weighted

	mu      sync.Mutex
	flights map[string]*flight
	known   map[string]Image // by target digest: configurations are immutable
	used    map[string]time.Time
	seen    map[string]sighting // by name: found whole a moment ago
}

// New connects lazily: containerd need not be there yet.
func New(cfg Config) (*Images, error) {
	if cfg.Address == "" || cfg.Namespace == "" || cfg.Log == nil {
		return nil, errors.New("images: Address, Namespace and Log are required")
	}
	// containerd's library tells of every request by a logger of its own, for the whole process. What matters of it is in
	// the errors that it returns.
	if err := containerdlog.SetLevel("warn"); err != nil {
		return nil, fmt.Errorf("images: quiet containerd's library: %w", err)
	}
	if cfg.Snapshotter == "" {
		cfg.Snapshotter = defaultSnapshotter()
	}
	if cfg.HostsDir == "" {
		cfg.HostsDir = "/etc/containerd/certs.d"
	}
	if cfg.MaxParallel <= 0 {
		cfg.MaxParallel = 3
	}
	if cfg.StallTimeout <= 0 {
		cfg.StallTimeout = time.Minute
	}
	// The timeout is also the longest pause between attempts to reach a containerd that went away.
	client, err := containerd.New(cfg.Address, containerd.WithTimeout(2*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connect containerd at %s: %w", cfg.Address, err)
	}
	return &Images{
		cfg: cfg, client: client,
		slots:   semaphore.NewWeighted(int64(cfg.MaxParallel)),
		flights: map[string]*flight{},
		known:   map[string]Image{},
		used:    map[string]time.Time{},
		seen:    map[string]sighting{},
	}, nil
}

func defaultSnapshotter() string {
	data, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(data), "\toverlay\n") && unloadable("overlay") {
		return "native"
	}
	return "overlayfs"
}

// unloadable is true when the kernel has no such module to load on demand.
func unloadable(module string) bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	dir := "/lib/modules/" + unix.ByteSliceToString(name.Release[:])
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		data, err := os.ReadFile(dir + "/" + list)
		if err == nil && strings.Contains(string(data), "/"+module+".ko") {
			return false
		}
	}
	return true
}

// Client is the connection to containerd, shared with agent/runtime.
func (m *Images) Client() *containerd.Client { return m.client }

// Snapshotter is the name of the snapshotter that images are unpacked to.
func (m *Images) Snapshotter() string { return m.cfg.Snapshotter }

// Close ends the connection.
func (m *Images) Close() error { return m.client.Close() }

func (m *Images) context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, m.cfg.Namespace)
}

// Get reads an image that is present. The error is of class NotFound where it is not, or not whole.
func (m *Images) Get(ctx context.Context, ref string) (Image, error) {
	name, err := Normalize(ref)
	if err != nil {
		return Image{}, err
	}
	if img, ok := m.recent(name); ok {
		return img, nil
	}
	return m.get(m.context(ctx), name)
}

// seenFor is how long an image that was found whole is taken to be so: pods that start together do not each ask
// containerd four times. Where somebody else removes the image meanwhile, making the container says so.
const seenFor = time.Second

type sighting struct {
	img Image
	at  time.Time
}

func (m *Images) recent(name string) (Image, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.seen[name]
	return s.img, ok && time.Since(s.at) < seenFor
}

// saw remembers an image that is whole, and forgets what is old.
func (m *Images) saw(name string, img Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.seen, func(_ string, s sighting) bool { return time.Since(s.at) >= seenFor })
	m.seen[name] = sighting{img, time.Now()}
}

// lost forgets a sighting, because the name leads to something else now, or to nothing.
func (m *Images) lost(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, name)
}

func (m *Images) get(ctx context.Context, name string) (Image, error) {
	record, err := m.client.ImageService().Get(ctx, name)
	if err != nil {
		return Image{}, fmt.Errorf("get image %s: %w", name, classify(err))
	}
	img, err := m.describe(ctx, record.Target)
	if err != nil {
		return Image{}, fmt.Errorf("get image %s: %w", name, err)
	}
	img.Ref = name
	img.RepoDigest = repoDigest(name, record.Target.Digest.String())
	return img, nil
}

// describe reads manifest and configuration behind target. Name and repo digest are the caller's.
func (m *Images) describe(ctx context.Context, target ocispec.Descriptor) (Image, error) {
	key := target.Digest.String()
	m.mu.Lock()
	img, ok := m.known[key]
	m.mu.Unlock()
	if ok {
		return img, nil
	}
	store := m.client.ContentStore()
	manifest, err := images.Manifest(ctx, store, target, platforms.Default())
	if err != nil {
		return Image{}, fmt.Errorf("read manifest: %w", classify(err))
	}
	config, err := readConfig(ctx, store, manifest.Config)
	if err != nil {
		return Image{}, err
	}
	img = Image{
		ID:         manifest.Config.Digest.String(),
		Size:       manifest.Config.Size,
		User:       config.Config.User,
		Entrypoint: config.Config.Entrypoint,
		Cmd:        config.Config.Cmd,
		Env:        config.Config.Env,
		WorkingDir: config.Config.WorkingDir,
		StopSignal: config.Config.StopSignal,
		ChainID:    identity.ChainID(config.RootFS.DiffIDs).String(),
	}
	for _, layer := range manifest.Layers {
		img.Size += layer.Size
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= maxKnown {
		clear(m.known)
	}
	m.known[key] = img
	return img, nil
}

// maxKnown bounds the memory for configurations; forgetting one costs a read.
const maxKnown = 256

// unpacked reports whether the image's snapshot is there.
func (m *Images) unpacked(ctx context.Context, img Image) (bool, error) {
	if img.ChainID == "" {
		return true, nil
	}
	_, err := m.client.SnapshotService(m.cfg.Snapshotter).Stat(ctx, img.ChainID)
	if err = classify(err); errors.Is(err, fault.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for snapshot of image %s: %w", img.Ref, err)
	}
	return true, nil
}
