package cni

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containernetworking/cni/libcni"
	cnitypes "github.com/containernetworking/cni/pkg/types"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Detach takes the pod's link and addresses away. It is idempotent and works when the
// namespace is gone. A pod of which no attachment is known needs nothing. On error the record
// stays, so that the next call tries again and no address leaks.
func (c *CNI) Detach(ctx context.Context, uid types.UID, namespace, name, netnsPath string) error {
	unlock := c.busy.lock(uid)
	defer unlock()
	k, ok := c.lookup(uid)
	if !ok {
		return nil
	}
	if netnsPath != "" {
		k.Netns = netnsPath
	}
	if err := c.undo(ctx, k.record); err != nil {
		return fmt.Errorf("detach pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

// undo runs DEL with the recorded conflist and then forgets the record.
func (c *CNI) undo(ctx context.Context, r record) error {
	list, err := parseList(r.Conflist)
	if err != nil {
		return err
	}
	release, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	rt := runtimeConf(r)
	if _, err := namespaceInode(r.Netns); err != nil {
		// The specification's way to say that there is no namespace: plugins release what they
		// hold elsewhere and leave the links, which went with it.
		rt.NetNS = ""
	}
	if err := c.lib.DelNetworkList(ctx, needed(list, r.Capabilities), rt); err != nil {
		return fmt.Errorf("network %q: %w", list.Name, err)
	}
	return c.removeRecord(r.UID)
}

// GC detaches every pod that is not in keep and lets the plugins collect what they hold for
// none of them (CNI 1.1.0). Call it only when keep is known to be complete.
func (c *CNI) GC(ctx context.Context, keep []types.UID) error {
	wanted := sets.New(keep...)
	attached, err := c.Attached(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, uid := range attached {
		if wanted.Has(uid) {
			continue
		}
		k, ok := c.lookup(uid)
		if !ok {
			continue
		}
		c.cfg.Log.Info("detaching a pod that is gone", "pod", k.Namespace+"/"+k.Name, "uid", uid)
		errs = append(errs, c.Detach(ctx, uid, k.Namespace, k.Name, ""))
	}
	errs = append(errs, c.collect(ctx, wanted))
	return errors.Join(errs...)
}

func (c *CNI) collect(ctx context.Context, keep sets.Set[types.UID]) error {
	list, err := c.network()
	if errors.Is(err, ErrNotReady) {
		return nil
	}
	if err != nil {
		return err
	}
	args := &libcni.GCArgs{}
	for uid := range keep {
		args.ValidAttachments = append(args.ValidAttachments, cnitypes.GCAttachment{ContainerID: string(uid), IfName: Interface})
	}
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	if err := c.lib.GCNetworkList(ctx, list, args); err != nil {
		return fmt.Errorf("collect garbage of network %q: %w", list.Name, err)
	}
	return nil
}

// RemoveState removes what the package keeps on disk, for a node that is taken down. Every pod
// must have been detached.
func (c *CNI) RemoveState() error {
	c.mu.Lock()
	n := len(c.known)
	c.mu.Unlock()
	if n > 0 {
		return fmt.Errorf("%d pods are still attached", n)
	}
	for _, d := range []string{c.cfg.CacheDir, c.leaseDir()} {
		if err := os.RemoveAll(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
