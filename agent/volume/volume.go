// Package volume makes the volumes of pods on the node's file system, and the few files that
// every pod gets (hosts, resolv.conf, hostname, termination logs).
//
// It owns the folder of each pod below RootDir, in the layout that CSI drivers and people know:
//
//	pods/UID/volumes/kubernetes.io~empty-dir/NAME      a folder, or a tmpfs
//	pods/UID/volumes/kubernetes.io~configmap/NAME      files behind ..data
//	pods/UID/volumes/kubernetes.io~secret/NAME         the same on a tmpfs; ~projected and ~downward-api too
//	pods/UID/volumes/kubernetes.io~image/NAME          a read-only view of an image, mounted by agent/image
//	pods/UID/volume-subpaths/VOLUME/CONTAINER/INDEX    a bind mount of one subPath
//	pods/UID/etc-hosts, resolv.conf, hostname
//	pods/UID/containers/CONTAINER/ATTEMPT/termination-log
//
// What goes into files is decided by pure functions (payload.go, projected.go, downward.go, hosts.go,
// resolv.go); the rest only carries it out. Every effect is idempotent and compares with what is
// there, so after kill -9 at any instruction the next call finishes the work. What is mounted
// is read from the kernel. Unmounting comes before deleting, and deleting never
// crosses a mount point or a symbolic link.
//
// It does not decide when volumes are made or removed, fetches no objects by itself, and does
// not mount into containers.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Config is what New needs.
type Config struct {
	RootDir string // required: /var/lib/kubelet, or this node's own
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now; tests inject
	// ReleaseImages gives back what a pod's image volumes were made of; nil: nothing.
	ReleaseImages func(ctx context.Context, uid types.UID) error
}

// Volumes makes and removes pods' volumes. It is safe for concurrent use; calls about one pod
// run one after the other.
type Volumes struct {
	root string
	log  *slog.Logger
	now  func() time.Time

	release func(ctx context.Context, uid types.UID) error

	mu   sync.Mutex
	busy map[types.UID]*podLock
}

type podLock struct {
	sync.Mutex
	users int
}

// New makes the root folder. It must be private to root, because a pod's folder is passed through on the way to its secrets.
func New(cfg Config) (*Volumes, error) {
	if !filepath.IsAbs(cfg.RootDir) {
		return nil, fmt.Errorf("volume root %q is not an absolute path", cfg.RootDir)
	}
	if err := os.MkdirAll(filepath.Join(cfg.RootDir, "pods"), 0o750); err != nil {
		return nil, fmt.Errorf("make volume root: %w", err)
	}
	// mountinfo shows real paths, so ours must be real too.
	real, err := filepath.EvalSymlinks(cfg.RootDir)
	if err != nil {
		return nil, fmt.Errorf("volume root: %w", err)
	}
	v := &Volumes{root: real, log: cfg.Log, now: cfg.Now, release: cfg.ReleaseImages, busy: map[types.UID]*podLock{}}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if v.now == nil {
		v.now = time.Now
	}
	return v, nil
}

// Request is everything that a pod's volumes are made from.
type Request struct {
	Pod *v1.Pod
	// ConfigMap and Secret find objects on the node; false: the node was not given such an object.
	ConfigMap func(namespace, name string) (*v1.ConfigMap, bool)
	Secret    func(namespace, name string) (*v1.Secret, bool)
	// Token gives a new service-account token. It is called only when a token is due.
	Token func(ctx context.Context, r TokenRequest) (Token, error)
	// Image shows the image of a volume read-only at target, or answers ErrNotYet. Idempotent. Nil: there are no image volumes.
	Image func(ctx context.Context, vol *v1.Volume, target string) error
	// Allocatable is the node's, which limits stand for where a container has none.
	Allocatable v1.ResourceList
}

// TokenRequest asks for a token bound to the pod.
type TokenRequest struct {
	Namespace, ServiceAccount string
	PodName                   string
	PodUID                    types.UID
	Audiences                 []string // empty: the API server's
	ExpirationSeconds         int64
}

// Token is a service-account token.
type Token struct {
	Token   string
	Expires time.Time
}

// SetupError says which volume could not be made. Its text is what users see in the pod's events.
type SetupError struct {
	Volume string
	Err    error
}

func (e *SetupError) Error() string {
	return fmt.Sprintf("MountVolume.SetUp failed for volume %q : %v", e.Volume, e.Err)
}

func (e *SetupError) Unwrap() error { return e.Err }

// ErrUnsupported is behind a SetupError about a kind of volume that this node cannot make. Trying again does not help.
var ErrUnsupported = errors.New("this kind of volume is not supported by the node")

// Result is what Ensure found or made.
type Result struct {
	Paths map[string]string // volume name → path on the host
	// RefreshAt is when a service-account token is due to be replaced; zero: never.
	RefreshAt time.Time
	// Warnings are about content that could not be brought up to date and was left as it was.
	Warnings []error
}

// Ensure makes every volume that a container of the pod mounts, and brings the content of those
// that show objects up to date: calling it again is how a changed ConfigMap, Secret or label and
// a token that is due arrive in running containers. Errors are SetupErrors, joined; volumes
// without an error are made all the same.
//
// Content that is there is never taken away because its source is: a Secret that was deleted
// stays in running pods, as users of Kubernetes expect, and a token that cannot be replaced
// now is left, with a warning.
func (v *Volumes) Ensure(ctx context.Context, r Request) (Result, error) {
	unlock, err := v.lock(r.Pod.UID)
	if err != nil {
		return Result{}, err
	}
	defer unlock()

	result := Result{Paths: map[string]string{}}
	var errs []error
	used := mounted(r.Pod)
	for i := range r.Pod.Spec.Volumes {
		vol := &r.Pod.Spec.Volumes[i]
		if !used[vol.Name] {
			continue
		}
		path, err := v.ensure(ctx, r, vol, &result)
		if errors.Is(err, ErrNotYet) {
			continue
		}
		if err != nil {
			errs = append(errs, &SetupError{Volume: vol.Name, Err: err})
			continue
		}
		result.Paths[vol.Name] = path
	}
	return result, errors.Join(errs...)
}

func (v *Volumes) ensure(ctx context.Context, r Request, vol *v1.Volume, result *Result) (string, error) {
	switch {
	case vol.EmptyDir != nil:
		return v.ensureEmptyDir(r, vol)
	case vol.HostPath != nil:
		return ensureHostPath(vol.HostPath)
	case vol.ConfigMap != nil, vol.Secret != nil, vol.DownwardAPI != nil, vol.Projected != nil:
		return v.ensureContent(ctx, r, vol, result)
	case vol.Image != nil:
		return v.ensureImage(ctx, r, vol)
	default:
		return "", fmt.Errorf("%w: %s", ErrUnsupported, sourceName(vol))
	}
}

// Pods lists the pods of which anything is mounted or on disk.
func (v *Volumes) Pods(context.Context) (map[types.UID]bool, error) {
	entries, err := os.ReadDir(filepath.Join(v.root, "pods"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pods' volumes: %w", err)
	}
	out := map[types.UID]bool{}
	for _, e := range entries {
		if e.IsDir() {
			out[types.UID(e.Name())] = true
		}
	}
	return out, nil
}

// PodDir is the folder of one pod.
func (v *Volumes) PodDir(uid types.UID) string { return filepath.Join(v.root, "pods", string(uid)) }

func (v *Volumes) volumeDir(uid types.UID, plugin, name string) string {
	return filepath.Join(v.PodDir(uid), "volumes", "kubernetes.io~"+plugin, name)
}

// lock lets one call at a time at a pod's folder. It also refuses what is no UID, because
// the UID becomes a path.
func (v *Volumes) lock(uid types.UID) (unlock func(), err error) {
	if s := string(uid); s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
		return nil, fmt.Errorf("pod uid %q is not one", uid)
	}
	v.mu.Lock()
	l := v.busy[uid]
	if l == nil {
		l = &podLock{}
		v.busy[uid] = l
	}
	l.users++
	v.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		v.mu.Lock()
		defer v.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(v.busy, uid)
		}
	}, nil
}
