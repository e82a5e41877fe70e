package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// shimGroup names the shim that serves a pod's containers. It is kept in the sandbox's record,
// so all containers of a pod have one shim for as long as the sandbox lives.
type shimGroup string

// assignGroup gives a pod a shim: one of those with room, else a new one. The name carries
// containerd's version: after an upgrade new pods get shims of the new version.
func (r *Runtime) assignGroup(ctx context.Context, uid types.UID) (shimGroup, error) {
	prefix, err := r.groupPrefix(ctx)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.groups == nil {
		if err := r.loadGroups(); err != nil {
			return "", err
		}
	}
	if g, ok := r.groups[uid]; ok {
		return g, nil
	}
	members := map[shimGroup]int{}
	for _, g := range r.groups {
		members[g]++
	}
	for n := 0; ; n++ {
		g := shimGroup(prefix + strconv.Itoa(n))
		if r.cfg.PodsPerShim == 1 {
			g = shimGroup(prefix + string(uid))
		}
		if members[g] < r.cfg.PodsPerShim {
			r.groups[uid] = g
			return g, nil
		}
	}
}

// groupPrefix begins the names of groups with this version of containerd, which is asked for once in each life of its:
// follow forgets it when the events stream ends.
func (r *Runtime) groupPrefix(ctx context.Context) (string, error) {
	r.mu.Lock()
	prefix := r.prefix
	r.mu.Unlock()
	if prefix != "" {
		return prefix, nil
	}
	version, err := r.client.Version(r.context(ctx))
	if err != nil {
		return "", fmt.Errorf("ask containerd for its version: %w", classify(err))
	}
	sum := sha256.Sum256([]byte(version.Version + " " + version.Revision))
	prefix = "coracle-" + hex.EncodeToString(sum[:4]) + "-"
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prefix = prefix
	return prefix, nil
}

// loadGroups reads the groups of the sandboxes on disk. The caller holds mu.
func (r *Runtime) loadGroups() error {
	entries, err := os.ReadDir(filepath.Join(r.cfg.RunDir, "pods"))
	if err != nil {
		return fmt.Errorf("read shim groups: %w", err)
	}
	r.groups = map[types.UID]shimGroup{}
	for _, e := range entries {
		uid := types.UID(e.Name())
		if record, err := r.readSandbox(uid); err == nil {
			r.groups[uid] = record.Group
		}
	}
	return nil
}

// groupOf is the shim of one container: what runs privileged or keeps the node alive does not
// share a shim with other pods.
func groupOf(c pod.ContainerSpec, shared shimGroup) string {
	if isPrivileged(c) || c.SystemCritical {
		return "coracle-own-" + string(c.PodUID)
	}
	return string(shared)
}
