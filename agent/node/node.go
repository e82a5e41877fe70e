// Package node puts the agent together: it is the only package that knows all the others.
//
// New builds every part from one configuration and starts nothing; Run starts all long-lived
// parts in one group and ends when one fails or ctx ends. Ending touches no container: what runs
// is found again by the next start.
//
//	session ─▶ store ─▶ podrun ─▶ runtime, image, cni, volume, cgroup
//	   ▲                  │
//	   └── status outbox ◀┴── report (facts, conditions)
//
// Beside assembly it owns what ties parts together and belongs to none: the Node's report, the
// node's network (conflist, masquerading, addresses), the cache of service-account tokens and
// the local status socket.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cgroup"
	"coracle/agent/cni"
	"coracle/agent/config"
	"coracle/agent/device"
	"coracle/agent/evict"
	"coracle/agent/fact"
	"coracle/agent/identity"
	"coracle/agent/image"
	"coracle/agent/podrun"
	containers "coracle/agent/runtime"
	"coracle/agent/session"
	"coracle/agent/shutdown"
	"coracle/agent/static"
	"coracle/agent/status"
	"coracle/agent/store"
	"coracle/agent/stream"
	"coracle/agent/volume"
	"coracle/internal/fault"
	"coracle/internal/version"
)

// Node is one agent.
type Node struct {
	cfg  config.Config
	log  *slog.Logger
	keep *Journal
	name string
	host fact.Host

	store    *store.Store
	identity *identity.Identity
	session  *session.Session
	outbox   *status.Outbox
	recorder *status.Recorder
	images   *image.Images
	runtime  *containers.Runtime
	cgroups  *cgroup.Cgroups
	cni      *cni.CNI
	volumes  *volume.Volumes
	streams  *stream.Server
	runner   *podrun.Runner
	devices  *device.Devices
	statics  *static.Source

	network *network
	imageGC *imageGC
	evictor *evict.Evictor
	// shutdown follows the machine's, not the agent's own.
	shutdown *shutdown.Shutdown
	report   *report
	tokens   *tokens
	began    time.Time
	// gaps are sentences about what pods may ask for and this machine cannot give.
	gaps []string
}

// New builds an agent. The machine must have joined. journal keeps recent troubles for the status
// socket and is where log goes through; both are required.
func New(cfg config.Config, log *slog.Logger, journal *Journal) (_ *Node, err error) {
	limitMemory(cfg, log)
	n := &Node{cfg: cfg, log: log, keep: journal, host: fact.Host{Root: "/"}, began: time.Now()}
	if n.identity, err = identity.Load(cfg.IdentityDir(), log); err != nil {
		return nil, err
	}
	n.name = n.identity.NodeName()
	if cfg.NodeName != "" && cfg.NodeName != n.name {
		return nil, fault.Invalid(fmt.Sprintf("nodeName is %q, but this machine joined as %q: remove nodeName, or run coracle-agent join again", cfg.NodeName, n.name))
	}
	if n.cfg.Server, err = cfg.ServerAddress(); err != nil {
		return nil, err
	}
	if n.store, err = store.Open(cfg.StorePath(), log); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	// Each needs those before it.
	for _, build := range []func() error{n.buildRuntime, n.buildNetwork, n.buildSession, n.buildPods} {
		if err := build(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// limitMemory makes the garbage collector work harder before the process grows. The limit is soft:
// the agent is never killed by it.
func limitMemory(cfg config.Config, log *slog.Logger) {
	bytes, err := cfg.MemoryLimitBytes()
	if err != nil || bytes == 0 {
		return
	}
	debug.SetMemoryLimit(bytes)
	// With little live heap the default target doubles it at each cycle; half of that is
	// enough and costs a few milliseconds of CPU a minute.
	debug.SetGCPercent(50)
	log.Debug("memory limit", "bytes", bytes)
}

// buildSession makes what a node says and hears: outbox, events, streams, session.
func (n *Node) buildSession() (err error) {
	if n.outbox, err = status.NewOutbox(n.store, n.log); err != nil {
		return err
	}
	n.recorder = status.NewRecorder(n.outbox, "coracle-agent", n.name, time.Now)
	n.streams = stream.New(stream.Config{Pods: n.store, Statuses: n.outbox, Runtime: n.runtime, LogDir: n.cfg.LogDir, Node: n.monitor(), Log: n.log})
	poll, err := n.cfg.PollInterval()
	if err != nil {
		return err
	}
	n.session, err = session.New(session.Config{
		Server: n.cfg.Server, Identity: n.identity, Store: n.store, Outbox: n.outbox,
		Streams: n.streams, Version: version.Version, BootID: n.host.BootID(), Poll: poll, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.tokens = &tokens{ask: n.session.Token, facts: n.store, log: n.log}
	return nil
}

// buildRuntime makes what runs containers.
func (n *Node) buildRuntime() (err error) {
	gc, err := thresholds(n.cfg.Images)
	if err != nil {
		return err
	}
	var providers *image.Providers
	if i := n.cfg.Images; i.CredentialProviderConfig != "" {
		if providers, err = image.LoadProviders(i.CredentialProviderConfig, i.CredentialProviderBinDir, n.log); err != nil {
			return err
		}
	}
	n.images, err = image.New(image.Config{
		Address: n.cfg.Containerd.Socket, Namespace: n.cfg.Containerd.Namespace,
		Snapshotter: n.cfg.Containerd.Snapshotter, HostsDir: n.cfg.Containerd.CertsDir,
		MaxParallel: n.cfg.Images.MaxParallelPulls, GC: gc, Providers: providers,
		LoginFile: filepath.Join(n.cfg.RootDir, "config.json"), Log: n.log, // where kubelet looks too
	})
	if err != nil {
		return err
	}
	if err := n.buildCgroups(); err != nil {
		return err
	}
	n.runtime, err = containers.New(containers.Config{
		Images: n.images, Namespace: n.cfg.Containerd.Namespace, RunDir: n.cfg.RunDir, LogSocket: n.cfg.LogSocket(),
		OCIRuntime: n.cfg.Runtime, PodsPerShim: n.cfg.PodsPerShim,
		Systemd: n.cgroups.Systemd(), Unified: n.cgroups.Unified(), SwapLimits: n.cgroups.SwapLimits(), Handlers: n.cfg.RuntimeHandlers, SeccompDir: filepath.Join(n.cfg.RootDir, "seccomp"), SeccompDefault: n.cfg.SeccompDefault, Log: n.log,
	})
	return err
}

func (n *Node) buildNetwork() (err error) {
	n.cni, err = cni.New(cni.Config{
		ConfDir: n.cfg.CNI.ConfDir, BinDirs: n.cfg.CNI.BinDirs, CacheDir: n.cfg.CNICacheDir(), RunDir: n.cfg.RunDir,
		Own: cni.Own{File: n.cfg.CNI.ConfFile, Bridge: n.cfg.CNI.Bridge}, Parallel: n.cfg.CNIParallel(), Log: n.log,
	})
	if err != nil {
		return err
	}
	n.network = newNetwork(n.cfg, n.cni, n.store, n.log)
	// The addresses of this moment go into the first plan of every pod.
	n.network.look()
	return nil
}

// buildPods makes what brings pods about, on all the rest.
func (n *Node) buildPods() (err error) {
	n.volumes, err = volume.New(volume.Config{RootDir: n.cfg.RootDir, ReleaseImages: n.images.ReleaseVolumes, Log: n.log})
	if err != nil {
		return err
	}
	n.devices, err = device.New(device.Config{
		Dir: filepath.Join(n.cfg.RootDir, "device-plugins"), Facts: n.store, Log: n.log,
		Changed: n.network.reportAnew, Wake: func(uid types.UID) { n.runner.Wake(uid) },
	})
	if err != nil {
		return err
	}
	n.report, err = newReport(n)
	if err != nil {
		return err
	}
	backOff, err := n.cfg.RestartBackOff()
	if err != nil {
		return err
	}
	n.runner, err = podrun.New(podrun.Config{
		Store: n.store, Runtime: n.runtime, Images: n.images, Network: n.cni, Volumes: n.volumes, Cgroups: n.cgroups,
		Outbox: n.outbox, Events: n.recorder, Token: n.tokens.Token, Log: n.log,
		NodeName: n.name, LogDir: n.cfg.LogDir, ResolvConf: n.cfg.ResolvConf,
		NoAppArmor:    !n.runtime.AppArmor(),
		HostIPs:       n.network.Addresses,
		Allocatable:   func() v1.ResourceList { return n.report.Allocatable() },
		Node:          n.object,
		Devices:       n.devices,
		Admission:     n.admit,
		UnsafeSysctls: n.cfg.AllowedUnsafeSysctls, RestartBackOffMax: backOff,
		MemoryBytes:   n.host.Memory().Total,
		Memory:        n.memoryPolicy(),
		ClusterDomain: n.clusterDomain, ClusterDNS: n.clusterDNS,
	})
	if err != nil {
		return err
	}
	if n.imageGC, err = newImageGC(n); err != nil {
		return err
	}
	if err := errors.Join(n.buildEvictor(), n.buildShutdown()); err != nil {
		return err
	}
	n.network.moved = n.wakeAll
	n.statics = static.New(static.Config{Dir: n.cfg.StaticPodDir, Node: n.name, Store: n.store, Mirrors: n.outbox, Log: n.log})
	// Before pods are run, so that none of these is taken for one that was removed.
	n.statics.Read()
	return nil
}

// object is the node's own Node as the control plane last sent it; nil: not yet.
func (n *Node) object() *v1.Node {
	node, _ := n.store.Node()
	return node
}

// wakeAll has every pod looked at again: their statuses name the node's addresses.
func (n *Node) wakeAll() {
	for _, o := range n.store.Objects(store.KindPod) {
		n.runner.Wake(types.UID(o.UID))
	}
}

// Run works until ctx ends, and then returns nil; or until a part fails for good. ready is called once
// everything has been started; it may be nil.
func (n *Node) Run(ctx context.Context, ready func()) error {
	n.log.Info("agent starts", "version", version.String(), "node", n.name, "server", n.cfg.Server, "go", runtime.Version())
	n.recorder.Event(v1.ObjectReference{Kind: "Node", Name: n.name, UID: types.UID(n.name)}, v1.EventTypeNormal, "Starting", "Starting coracle-agent.")
	if err := checkLogWriter(ctx, n.cfg.LogSocket()); err != nil {
		n.log.Warn("no log writer answers; containers run, and their output waits in pipes until one does", "socket", n.cfg.LogSocket(), "err", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for name, run := range map[string]func(context.Context) error{
		"store":   n.store.Run,
		"outbox":  n.outbox.Run,
		"session": n.session.Run,
		"runtime": n.runtime.Run,
		"network": n.network.Run,
		"tokens":  n.tokens.Run,
		"report":  n.report.Run,
		"pods":    n.runner.Run,
		"statics": n.statics.Run,
		"devices": n.devices.Run,
		"images":  n.imageGC.Run,
		"evictor": n.evictor.Run,
		"machine": n.shutdown.Run,
		"status":  n.serveStatus,
	} {
		g.Go(func() error {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	if ready != nil {
		ready()
	}
	err := g.Wait()
	n.log.Info("agent stops; containers run on")
	return err
}

// Close lets go of files and connections. It is called after Run.
func (n *Node) Close() error {
	var errs []error
	if n.images != nil {
		errs = append(errs, n.images.Close())
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	return errors.Join(errs...)
}

func (n *Node) clusterDomain() string {
	if n.cfg.ClusterDomain != "" {
		return n.cfg.ClusterDomain
	}
	if domain, _ := n.session.Cluster(); domain != "" {
		return domain
	}
	return "cluster.local"
}

func (n *Node) clusterDNS() []string {
	if len(n.cfg.ClusterDNS) > 0 {
		return n.cfg.ClusterDNS
	}
	_, dns := n.session.Cluster()
	return dns
}
