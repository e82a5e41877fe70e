// Package runtime runs containers through containerd, without a pause image. With agent/image
// it is the only package that knows containerd.
//
// It owns, for each pod, the namespaces that its containers share and their pins; for each
// container the record, snapshot, task, shim and FIFOs; exec and attach; and the reading of all
// that as pod.Observed. It does not know volumes, CNI or when to restart: podrun does.
//
//	<runDir>/pods/<uid>/sandbox.json        the sandbox is complete; which shim group it has
//	<runDir>/pods/<uid>/ns/{net,ipc,uts}    bind mounts that keep the namespaces alive
//	<runDir>/pods/<uid>/ns/{user,pid}       where the pod has users of its own, or shares its processes
//	<runDir>/pods/<uid>/shm                 tmpfs, /dev/shm of all the pod's containers
//	<runDir>/io/<container>/                FIFOs and registration, see agent/logwriter
//
// The way of a container; Start may be repeated from every state before Exited:
//
//	Create ─▶ record and snapshot ─▶ Start ─▶ task ─▶ running ─▶ exited ─▶ Remove
//
// Invariants: ids are computed from pod uid, name and attempt, so what was half made is found
// again; everything carries the pod's uid; how a container ended is written to its record when
// first seen, so that it outlives containerd, the shim and a reboot; what is observed is read
// from containerd and the kernel each time.
package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/image"
	"coracle/agent/logwriter"
)

// Config is what Runtime needs. Images, Namespace, RunDir and Log are required.
type Config struct {
	Images    *image.Images // the images, and the connection to containerd
	Namespace string        // containerd's namespace, "coracle"
	RunDir    string        // what lasts until the next boot, "/run/coracle"
	LogSocket string        // the log writer's socket; default <RunDir>/log.sock

	// OCIRuntime is auto (default: crun where it is usable, else runc), crun or runc.
	OCIRuntime string
	// Handlers are what RuntimeClasses may name, as in the agent's configuration; runc and crun are there where the programs are.
	Handlers map[string]string
	// PodsPerShim is how many pods may share one shim; default 10, 1 gives each pod its own.
	// Privileged and system-critical pods always have their own.
	PodsPerShim int
	// Systemd and Unified say how agent/cgroup makes groups.
	Systemd, Unified bool
	// SwapLimits says that the kernel limits swap for groups.
	SwapLimits bool
	// SeccompDir holds profiles of type Localhost; default /var/lib/kubelet/seccomp.
	SeccompDir string
	// SeccompDefault applies RuntimeDefault to containers that name no profile.
	SeccompDefault bool
	Log            *slog.Logger
}

// Runtime is the node's door to containerd. Safe for concurrent use; calls for one pod are
// expected one at a time.
type Runtime struct {
	cfg    Config
	log    *slog.Logger
	client *containerd.Client
	host   hostFacts
	bootID string

	reapDelay time.Duration

	// changes has room for a burst; Run keeps what does not fit in a set, so nothing is lost.
	changes chan types.UID

	starts entrances // of commands, by container

	mu       sync.Mutex
	oci      ociRuntime              // chosen at first use
	features *Features               // found at first use
	owners   map[string]types.UID    // container id → pod, for events; filled as containers are seen
	fresh    map[string]prepared     // made by Create in this process, until Start
	fifos    map[string][]*os.File   // reading ends kept so that output outlives a dead log writer
	groups   map[types.UID]shimGroup // read from the sandboxes on disk at first use
	bases    map[types.UID]uint32    // of pods with user ids of their own; read in the same way
	prefix   string                  // of new groups' names; empty: containerd's version is to be asked for
	users    map[string]accounts     // by image id: passwd and group files
}

// prepared is what Create knows and Start would otherwise have to ask for.
type prepared struct {
	mounts []mount.Mount
	io     logwriter.Registration
	uid    types.UID
	base   uint32 // as in sandboxRecord
	label  string // of SELinux, for files; empty: none
	pid    uint32 // of the task that Create has made; 0: Start makes it
}

// New reads the machine's facts. containerd need not be there yet.
func New(cfg Config) (*Runtime, error) {
	if cfg.Images == nil || cfg.Namespace == "" || cfg.RunDir == "" || cfg.Log == nil {
		return nil, errors.New("runtime: Images, Namespace, RunDir and Log are required")
	}
	if cfg.LogSocket == "" {
		cfg.LogSocket = filepath.Join(cfg.RunDir, "log.sock")
	}
	if cfg.PodsPerShim <= 0 {
		cfg.PodsPerShim = 10
	}
	if cfg.SeccompDir == "" {
		cfg.SeccompDir = "/var/lib/kubelet/seccomp"
	}
	switch cfg.OCIRuntime {
	case "":
		cfg.OCIRuntime = "auto"
	case "auto", "crun", "runc":
	default:
		return nil, fmt.Errorf("runtime: OCI runtime %q is unknown: auto, crun or runc", cfg.OCIRuntime)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("runtime: read boot id: %w", err)
	}
	host, err := readHostFacts(cfg)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.RunDir, filepath.Join(cfg.RunDir, "pods"), filepath.Join(cfg.RunDir, "io")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("runtime: %w", err)
		}
	}
	if err := os.RemoveAll(execDir(cfg)); err != nil {
		return nil, fmt.Errorf("runtime: remove pipes of an earlier agent's commands: %w", err)
	}
	return &Runtime{
		cfg: cfg, log: cfg.Log, client: cfg.Images.Client(), host: host,
		bootID:    strings.TrimSpace(string(boot)),
		reapDelay: reapDelay,
		changes:   make(chan types.UID, 64),
		owners:    map[string]types.UID{},
		fresh:     map[string]prepared{},
		fifos:     map[string][]*os.File{},
		users:     map[string]accounts{},
	}, nil
}

func (r *Runtime) context(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.cfg.Namespace)
}

func (r *Runtime) containers() containers.Store { return r.client.ContainerService() }

func (r *Runtime) snapshotter() snapshots.Snapshotter {
	return r.client.SnapshotService(r.cfg.Images.Snapshotter())
}

func (r *Runtime) ioDir() string { return filepath.Join(r.cfg.RunDir, "io") }

func (r *Runtime) podDir(uid types.UID) string {
	return filepath.Join(r.cfg.RunDir, "pods", string(uid))
}
