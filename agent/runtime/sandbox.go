package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// SandboxSpec is what a pod's containers share.
type SandboxSpec struct {
	UID                           types.UID
	Namespace, Name               string
	Hostname                      string // empty: none is set
	HostNetwork, HostIPC, HostPID bool
	Handler                       string // of the pod's RuntimeClass; empty: the node's own runtime
	ShareProcessNamespace         bool
	// OwnUsers gives the pod user ids of its own: hostUsers: false.
	OwnUsers     bool
	Sysctls      map[string]string
	CgroupParent string // of the pod, as agent/cgroup gave it
}

// shmSize is Kubernetes' for /dev/shm.
const shmSize = "65536k"

// sandboxRecord is sandbox.json. It is written last: without it the sandbox is not complete.
type sandboxRecord struct {
	Boot      string    `json:"boot"`
	CreatedAt time.Time `json:"createdAt"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Hostname  string    `json:"hostname,omitempty"`
	Handler   string    `json:"handler,omitempty"`
	Pins      []string  `json:"pins"` // files below ns/
	Shm       bool      `json:"shm,omitempty"`
	Group     shimGroup `json:"group"`
	// Base is the machine's id of the pod's root; 0: the pod has the machine's users.
	Base uint32 `json:"base,omitempty"`
}

// EnsureSandbox makes the namespaces that a pod's containers share, or finds them. Errors of
// class Invalid (a sysctl that a pod may not set) stay until the pod changes.
func (r *Runtime) EnsureSandbox(ctx context.Context, spec SandboxSpec) (*pod.Sandbox, error) {
	if spec.UID == "" || strings.ContainsAny(string(spec.UID), "/\x00") || strings.HasPrefix(string(spec.UID), ".") {
		return nil, fault.Invalid(fmt.Sprintf("ensure sandbox: pod uid %q cannot name a directory", spec.UID))
	}
	record, err := r.readSandbox(spec.UID)
	if err == nil {
		spec.Handler = record.Handler // its RuntimeClass may be gone by now
		if spec.ShareProcessNamespace {
			err = r.ensureFirstProcess(ctx, spec, record)
		}
		return r.sandbox(spec.UID, record), err
	}
	if !errors.Is(err, fault.ErrNotFound) {
		return nil, err
	}
	if _, err := r.findHandler(spec.Handler); err != nil {
		return nil, err
	}
	group, err := r.assignGroup(ctx, spec.UID)
	if err != nil {
		return nil, fmt.Errorf("ensure sandbox of pod %s: %w", spec.UID, err)
	}
	var base uint32
	if spec.OwnUsers {
		if err := UserNamespaceObstacle(); err != nil {
			return nil, fault.As(fault.ErrInvalid, fmt.Errorf("hostUsers: false cannot be had on this node: %w", err))
		}
		if base, err = r.assignBase(spec.UID); err != nil {
			return nil, fmt.Errorf("ensure sandbox of pod %s: %w", spec.UID, err)
		}
	}
	record, err = r.makeSandbox(spec, group, base)
	if err == nil && spec.ShareProcessNamespace {
		err = r.ensureFirstProcess(ctx, spec, record)
	}
	if err != nil {
		return nil, fmt.Errorf("ensure sandbox of pod %s: %w", spec.UID, err)
	}
	return r.sandbox(spec.UID, record), nil
}

func (r *Runtime) makeSandbox(spec SandboxSpec, group shimGroup, base uint32) (sandboxRecord, error) {
	dir := r.podDir(spec.UID)
	// What a killed maker left is of unknown completeness.
	if err := r.clearSandbox(dir); err != nil {
		return sandboxRecord{}, err
	}
	record := sandboxRecord{
		Boot: r.bootID, CreatedAt: time.Now(), Namespace: spec.Namespace, Name: spec.Name,
		Hostname: spec.Hostname, Handler: spec.Handler, Group: group, Base: base,
	}
	var pins []pin
	if !spec.HostNetwork {
		pins = append(pins, pinNet, pinUTS)
	}
	if !spec.HostIPC {
		pins = append(pins, pinIPC)
	}
	for _, p := range pins {
		record.Pins = append(record.Pins, p.file)
	}
	if err := os.MkdirAll(filepath.Join(dir, "ns"), 0o711); err != nil {
		return record, err
	}
	switch {
	case base != 0:
		record.Pins = append(record.Pins, pinUser.file)
		if err := makeUserNamespaces(filepath.Join(dir, "ns"), pins, base, spec.Hostname, spec.Sysctls); err != nil {
			return record, err
		}
	case len(pins) > 0 || len(spec.Sysctls) > 0:
		if err := makeNamespaces(filepath.Join(dir, "ns"), pins, spec.Hostname, spec.Sysctls); err != nil {
			return record, err
		}
	}
	if !spec.HostIPC {
		shm := filepath.Join(dir, "shm")
		if err := os.MkdirAll(shm, 0o1777); err != nil {
			return record, err
		}
		if err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, fmt.Sprintf("mode=1777,size=%s,uid=%d,gid=%[2]d", shmSize, base)); err != nil {
			return record, fmt.Errorf("mount shared memory: %w", err)
		}
		record.Shm = true
	}
	return record, r.writeSandbox(spec.UID, record)
}

func (r *Runtime) writeSandbox(uid types.UID, record sandboxRecord) error {
	data, err := json.Marshal(record)
	if err != nil {
		return err
	}
	path := filepath.Join(r.podDir(uid), "sandbox.json")
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readSandbox gives a complete sandbox of this boot; everything else is of class NotFound.
func (r *Runtime) readSandbox(uid types.UID) (sandboxRecord, error) {
	dir := r.podDir(uid)
	data, err := os.ReadFile(filepath.Join(dir, "sandbox.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return sandboxRecord{}, fault.As(fault.ErrNotFound, fmt.Errorf("pod %s has no sandbox", uid))
	}
	if err != nil {
		return sandboxRecord{}, fmt.Errorf("read sandbox of pod %s: %w", uid, err)
	}
	record, err := parseSandbox(data)
	if err != nil {
		return sandboxRecord{}, fault.As(fault.ErrNotFound, fmt.Errorf("read sandbox of pod %s: %w", uid, err))
	}
	if record.Boot != r.bootID {
		return sandboxRecord{}, fault.As(fault.ErrNotFound, fmt.Errorf("sandbox of pod %s is of an earlier boot", uid))
	}
	for _, file := range record.Pins {
		if !pinned(filepath.Join(dir, "ns", file)) {
			return sandboxRecord{}, fault.As(fault.ErrNotFound, fmt.Errorf("sandbox of pod %s has lost its %s namespace", uid, file))
		}
	}
	return record, nil
}

func parseSandbox(data []byte) (sandboxRecord, error) {
	var record sandboxRecord
	if err := json.Unmarshal(data, &record); err != nil {
		return sandboxRecord{}, err
	}
	for _, file := range record.Pins {
		if file != pinNet.file && file != pinIPC.file && file != pinUTS.file && file != pinUser.file {
			return sandboxRecord{}, fmt.Errorf("%q is no namespace", file)
		}
	}
	return record, nil
}

func (r *Runtime) sandbox(uid types.UID, record sandboxRecord) *pod.Sandbox {
	paths := r.paths(uid, record)
	return &pod.Sandbox{CreatedAt: record.CreatedAt, NetnsPath: paths.Net, Attached: paths.Net == ""}
}

// paths are the pinned namespaces that containers join.
func (r *Runtime) paths(uid types.UID, record sandboxRecord) namespacePaths {
	var out namespacePaths
	for _, file := range record.Pins {
		path := filepath.Join(r.podDir(uid), "ns", file)
		switch file {
		case pinNet.file:
			out.Net = path
		case pinIPC.file:
			out.IPC = path
		case pinUTS.file:
			out.UTS = path
		case pinUser.file:
			out.User = path
		}
	}
	if path := filepath.Join(r.podDir(uid), "ns", "pid"); pinned(path) {
		out.PID = path
	}
	return out
}

// RemoveSandbox unpins a pod's namespaces, which end with them, and removes what creations that
// were cut short have left. The pod's containers must be removed before. Idempotent.
func (r *Runtime) RemoveSandbox(ctx context.Context, uid types.UID) error {
	if uid == "" || strings.ContainsAny(string(uid), "/\x00") || strings.HasPrefix(string(uid), ".") {
		return fault.Invalid(fmt.Sprintf("remove sandbox: pod uid %q cannot name a directory", uid))
	}
	if err := r.removeFirstProcess(ctx, uid); err != nil {
		return fmt.Errorf("remove sandbox of pod %s: %w", uid, err)
	}
	if err := r.sweepSnapshots(ctx, uid); err != nil {
		return fmt.Errorf("remove sandbox of pod %s: %w", uid, err)
	}
	dir := r.podDir(uid)
	if err := r.clearSandbox(dir); err != nil {
		return fmt.Errorf("remove sandbox of pod %s: %w", uid, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove sandbox of pod %s: %w", uid, err)
	}
	r.mu.Lock()
	delete(r.groups, uid)
	delete(r.bases, uid)
	r.mu.Unlock()
	return nil
}

// clearSandbox unmounts all that makeSandbox mounts; the record goes first, so that a sandbox
// is never found complete with namespaces missing.
func (r *Runtime) clearSandbox(dir string) error {
	if err := os.Remove(filepath.Join(dir, "sandbox.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var paths []string
	for _, sub := range []string{"idmap", "layers"} {
		if err := unmountTree(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	for _, file := range []string{"net", "ipc", "uts", "pid", "user"} {
		paths = append(paths, filepath.Join(dir, "ns", file))
	}
	return unmountBelow(append(paths, filepath.Join(dir, "shm"))...)
}
