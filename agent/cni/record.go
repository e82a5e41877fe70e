package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
)

// record is what is about to be attached, written before ADD.
type record struct {
	UID       types.UID `json:"uid"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Netns     string    `json:"netns"`
	// BootID and Inode identify the namespace that Netns led to. A path is used again; the
	// pair is not while the record is young, and the look into the namespace settles the rest.
	BootID string `json:"bootID"`
	Inode  uint64 `json:"inode"`
	// Conflist is the one used, so that DEL runs the same plugins with the same arguments.
	Conflist     json.RawMessage `json:"conflist"`
	Capabilities map[string]any  `json:"capabilities,omitempty"`
}

// known is a record and, once ADD has succeeded, its result.
type known struct {
	record
	added  bool
	result Result
}

func (r record) valid() error {
	switch {
	case r.UID == "" || strings.ContainsAny(string(r.UID), "/ "):
		return fmt.Errorf("uid %q is not one", r.UID)
	case !filepath.IsAbs(r.Netns):
		return fmt.Errorf("netns %q is not an absolute path", r.Netns)
	}
	_, err := parseList(r.Conflist)
	return err
}

func parseRecord(data []byte) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("parse record: %w", err)
	}
	if err := r.valid(); err != nil {
		return record{}, fmt.Errorf("record: %w", err)
	}
	return r, nil
}

func (c *CNI) recordPath(uid types.UID) string {
	return filepath.Join(c.cfg.CacheDir, "attachments", string(uid)+".json")
}

func (c *CNI) writeRecord(r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := writeFile(c.recordPath(r.UID), data, 0o600); err != nil {
		return fmt.Errorf("write CNI record: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[r.UID] = known{record: r}
	return nil
}

func (c *CNI) removeRecord(uid types.UID) error {
	if err := os.Remove(c.recordPath(uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove CNI record: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, uid)
	return nil
}

func (c *CNI) readRecords() error {
	dir := filepath.Join(c.cfg.CacheDir, "attachments")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read CNI records: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			_ = os.Remove(path) // left by a write that was cut short; the record itself was never there
			continue
		}
		if filepath.Ext(path) != ".json" {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read CNI record: %w", err)
		}
		r, err := parseRecord(data)
		if err != nil {
			aside := path + ".corrupt"
			c.cfg.Log.Warn("CNI record moved aside", "file", aside, "err", err)
			if err := os.Rename(path, aside); err != nil {
				return fmt.Errorf("move CNI record aside: %w", err)
			}
			continue
		}
		k := known{record: r}
		if result, ok := c.cachedResult(r); ok {
			k.added, k.result = true, result
		}
		c.known[r.UID] = k
	}
	return c.adopt()
}

// adopt makes records of what libcni remembers and we do not, so that a record that was lost
// or corrupt does not leak the pod's addresses: GC then finds it.
func (c *CNI) adopt() error {
	cached, err := c.lib.GetCachedAttachments("")
	if err != nil {
		return fmt.Errorf("read CNI results: %w", err)
	}
	for _, a := range cached {
		uid := types.UID(a.ContainerID)
		if _, ok := c.known[uid]; ok || a.IfName != Interface {
			continue
		}
		r := record{UID: uid, Netns: a.NetNS, Conflist: a.Config, Capabilities: a.CapabilityArgs}
		for _, arg := range a.CniArgs {
			switch arg[0] {
			case "K8S_POD_NAMESPACE":
				r.Namespace = arg[1]
			case "K8S_POD_NAME":
				r.Name = arg[1]
			}
		}
		if err := r.valid(); err != nil {
			c.cfg.Log.Warn("CNI result without a usable record", "uid", uid, "err", err)
			continue
		}
		// Not added: nothing says which namespace it was for, so an Attach starts over.
		c.known[uid] = known{record: r}
	}
	return nil
}

// sameNamespace says whether the record's path still leads to the namespace it was written for.
func (c *CNI) sameNamespace(r record) bool {
	inode, err := namespaceInode(r.Netns)
	return err == nil && inode == r.Inode && r.BootID == c.bootID
}

// namespaceInode is the identity of the namespace that is mounted at path. A plain file, which
// is what a power cut leaves of a bind mount, has none.
func namespaceInode(path string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, fmt.Errorf("network namespace %s: %w", path, err)
	}
	if fs.Type != unix.NSFS_MAGIC && fs.Type != unix.PROC_SUPER_MAGIC {
		return 0, fmt.Errorf("network namespace %s: no namespace is mounted there", path)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return st.Ino, nil
}

// readBootID separates this boot from those before it. Empty where the kernel does not tell:
// then every look relies on the namespace's content.
func readBootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
