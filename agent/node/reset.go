package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cni"
	"coracle/agent/config"
	"coracle/agent/link"
	"coracle/agent/pod"
	"coracle/agent/store"
	"coracle/agent/volume"
)

// resetParallel is how many pods are taken down at once.
const resetParallel = 8

// Reset stops every pod of this node and removes all that an agent with this configuration made
// on the machine: containers, namespaces, mounts, addresses, links, rules, cgroups, logs, state
// and identity. Images stay in containerd. The agent must not run. It can be repeated: what
// could not be removed is named in the error and met again.
func Reset(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	s, err := store.Open(cfg.StorePath(), log)
	if errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("the agent runs; stop it first (systemctl stop coracle-agent): %w", err)
	}
	if err != nil {
		return err
	}
	err = reset(ctx, cfg, log)
	return errors.Join(err, s.Close(), removeState(cfg, err == nil))
}

func reset(ctx context.Context, cfg config.Config, log *slog.Logger) (err error) {
	n := &Node{cfg: cfg, log: log}
	if err := n.buildRuntime(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.images.Close()) }()
	if n.cni, err = cni.New(cni.Config{
		ConfDir: cfg.CNI.ConfDir, BinDirs: cfg.CNI.BinDirs, CacheDir: cfg.CNICacheDir(), RunDir: cfg.RunDir,
		Own: cni.Own{File: cfg.CNI.ConfFile, Bridge: cfg.CNI.Bridge}, Parallel: cfg.CNIParallel(), Log: log,
	}); err != nil {
		return err
	}
	if n.volumes, err = volume.New(volume.Config{RootDir: cfg.RootDir, ReleaseImages: n.images.ReleaseVolumes, Log: log}); err != nil {
		return err
	}
	pods, err := n.everything(ctx)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(resetParallel)
	errs := make([]error, len(pods))
	for i, p := range pods {
		g.Go(func() error {
			errs[i] = n.takeDown(ctx, p)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs, one for each pod
	if err := errors.Join(errs...); err != nil {
		return err
	}
	log.Info("pods taken down", "count", len(pods))
	net := newNetwork(cfg, n.cni, nil, log)
	return errors.Join(
		net.masquerade().Remove(),
		n.cni.RemoveOwn(),
		link.RemoveBridge(cfg.CNI.Bridge),
		n.cni.RemoveState(),
		n.cgroups.RemoveTree(ctx),
	)
}

// everything lists the pods of which anything is on the machine.
func (n *Node) everything(ctx context.Context) ([]pod.Observed, error) {
	seen, err := n.runtime.ObserveAll(ctx)
	if err != nil {
		return nil, err
	}
	add := func(uid types.UID) {
		if _, ok := seen[uid]; !ok {
			seen[uid] = pod.Observed{UID: uid}
		}
	}
	volumes, err := n.volumes.Pods(ctx)
	if err != nil {
		return nil, err
	}
	groups, err := n.cgroups.Pods(ctx)
	if err != nil {
		return nil, err
	}
	attached, err := n.cni.Attached(ctx)
	if err != nil {
		return nil, err
	}
	for uid := range volumes {
		add(uid)
	}
	for uid := range groups {
		add(uid)
	}
	for _, uid := range attached {
		add(uid)
	}
	out := make([]pod.Observed, 0, len(seen))
	for _, o := range seen {
		out = append(out, o)
	}
	return out, nil
}

// takeDown removes one pod in the order of its making, backwards.
func (n *Node) takeDown(ctx context.Context, o pod.Observed) error {
	var errs []error
	for _, c := range o.Containers {
		errs = append(errs, n.runtime.Remove(ctx, c.ID))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	netns := ""
	if o.Sandbox != nil {
		netns = o.Sandbox.NetnsPath
	}
	if err := n.cni.Detach(ctx, o.UID, o.Namespace, o.Name, netns); err != nil {
		return err
	}
	if err := n.runtime.RemoveSandbox(ctx, o.UID); err != nil {
		return err
	}
	if err := n.volumes.Remove(ctx, o.UID); err != nil {
		return err
	}
	if err := n.cgroups.RemovePod(ctx, o.UID); err != nil {
		return err
	}
	return removeLogs(n.cfg.LogDir, o.UID)
}

// removeLogs removes the folders NAMESPACE_NAME_UID.
func removeLogs(dir string, uid types.UID) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove logs: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "_"+string(uid)) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("remove logs: %w", err)
			}
		}
	}
	return nil
}

// removeState forgets the node, once nothing of it is left to be found by its state.
func removeState(cfg config.Config, clean bool) error {
	if !clean {
		return nil
	}
	var errs []error
	for _, path := range []string{cfg.StorePath(), filepath.Join(filepath.Dir(cfg.StorePath()), store.KeyFile), cfg.IdentityDir(), cfg.StatusSocket(), filepath.Join(cfg.RunDir, "pods")} {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}
