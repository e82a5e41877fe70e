package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/podinit"
)

// A pod that shares its process namespace has a first process of its own: a container without
// image or snapshot, whose root is a directory of the sandbox with one small program in it.
//
//	<runDir>/pods/<uid>/init/root/init     the program
//	<runDir>/pods/<uid>/init/pid           its process id
//	<runDir>/pods/<uid>/ns/pid             the pinned namespace

func firstProcessID(uid types.UID) string { return shortUID(uid) + ".init" }

// nobody is who the first process runs as; it needs no rights.
const nobody = 65534

// ensureFirstProcess makes the pod's first process, or finds it running.
func (r *Runtime) ensureFirstProcess(ctx context.Context, spec SandboxSpec, record sandboxRecord) error {
	if r.firstProcessAlive(spec.UID) {
		return nil
	}
	if err := r.removeFirstProcess(ctx, spec.UID); err != nil {
		return err
	}
	ctx = r.context(ctx)
	id, dir := firstProcessID(spec.UID), filepath.Join(r.podDir(spec.UID), "init")
	if err := writeFirstProcess(filepath.Join(dir, "root")); err != nil {
		return fmt.Errorf("make first process: %w", err)
	}
	any, err := typeurl.MarshalAny(r.firstProcessSpec(id, dir, spec, record))
	if err != nil {
		return fmt.Errorf("make first process: %w", err)
	}
	info, err := r.runtimeInfo(spec.Handler)
	if err != nil {
		return err
	}
	_, err = r.containers().Create(ctx, containers.Container{
		ID: id, Runtime: info, Spec: any,
		Labels: map[string]string{labelUID: string(spec.UID), labelNamespace: spec.Namespace, labelPod: spec.Name, labelKind: kindInit, labelBoot: r.bootID},
	})
	if err != nil {
		return fmt.Errorf("make first process: %w", classify(err))
	}
	task, err := r.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{ContainerID: id})
	if err != nil {
		return fmt.Errorf("make first process: %w", classify(err))
	}
	if _, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id}); err != nil {
		return fmt.Errorf("start first process: %w", classify(err))
	}
	if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(int(task.Pid))), 0o600); err != nil {
		return fmt.Errorf("make first process: %w", err)
	}
	return bindFile(fmt.Sprintf("/proc/%d/ns/pid", task.Pid), filepath.Join(r.podDir(spec.UID), "ns", "pid"))
}

func writeFirstProcess(root string) error {
	program, err := podinit.Binary(runtime.GOARCH)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	// Of its own, because many systems mount /run so that nothing on it can be run.
	if err := unix.Mount("init", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=1m"); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	for _, dir := range []string{filepath.Join(root, "proc"), filepath.Join(root, "dev")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "init"), program, 0o755)
}

func (r *Runtime) firstProcessSpec(id, dir string, spec SandboxSpec, record sandboxRecord) *specs.Spec {
	paths := r.paths(spec.UID, record)
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
	for _, ns := range []specs.LinuxNamespace{
		{Type: specs.UserNamespace, Path: paths.User},
		{Type: specs.NetworkNamespace, Path: paths.Net}, {Type: specs.IPCNamespace, Path: paths.IPC}, {Type: specs.UTSNamespace, Path: paths.UTS},
	} {
		if ns.Path != "" {
			list = append(list, ns)
		}
	}
	shares := uint64(2)
	return &specs.Spec{
		Version: specVersion,
		Root:    &specs.Root{Path: filepath.Join(dir, "root"), Readonly: true},
		Process: &specs.Process{
			Args: []string{"/init"}, Cwd: "/", Env: []string{defaultPath}, NoNewPrivileges: true,
			User:         specs.User{UID: nobody, GID: nobody},
			Capabilities: &specs.LinuxCapabilities{},
			OOMScoreAdj:  clampOOM(-998, r.host.OOMFloor),
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
		},
		Annotations: map[string]string{groupAnnotation: string(record.Group)},
		Linux: &specs.Linux{
			Namespaces:  list,
			UIDMappings: idMappings(record.Base), GIDMappings: idMappings(record.Base),
			CgroupsPath: cgroupsPath(spec.CgroupParent, id),
			Resources: &specs.LinuxResources{
				CPU:     &specs.LinuxCPU{Shares: &shares},
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
			},
			MaskedPaths: maskedPaths, ReadonlyPaths: readonlyPaths,
		},
	}
}

// firstProcessAlive reports whether the pinned process namespace still has its first process:
// without it the kernel lets nobody in.
func (r *Runtime) firstProcessAlive(uid types.UID) bool {
	data, err := os.ReadFile(filepath.Join(r.podDir(uid), "init", "pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 || ending(pid) {
		return false
	}
	var running, pinned unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &running) != nil ||
		unix.Stat(filepath.Join(r.podDir(uid), "ns", "pid"), &pinned) != nil {
		return false
	}
	return running.Dev == pinned.Dev && running.Ino == pinned.Ino
}

// pfExiting is PF_EXITING of include/linux/sched.h: the process was killed and waits for those of its namespace.
const pfExiting = 0x4

// ending reports whether a process is gone or about to be. Its namespace file can be read until it is reaped,
// but the kernel lets nobody in any more, so that alone does not tell.
func ending(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:])) // proc_pid_stat(5), from field 3 on
	if len(fields) < 7 {
		return true
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err != nil || flags&pfExiting != 0
}

// removeFirstProcess ends the pod's first process, and with it every process of the namespace.
func (r *Runtime) removeFirstProcess(ctx context.Context, uid types.UID) error {
	dir := filepath.Join(r.podDir(uid), "init")
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	ctx = r.context(ctx)
	id := firstProcessID(uid)
	if err := r.deleteTask(ctx, id); err != nil {
		return fmt.Errorf("remove first process: %w", err)
	}
	if err := ignoreNotFound(r.containers().Delete(ctx, id)); err != nil {
		return fmt.Errorf("remove first process: %w", err)
	}
	if err := unmountBelow(filepath.Join(r.podDir(uid), "ns", "pid"), filepath.Join(dir, "root")); err != nil {
		return fmt.Errorf("remove first process: %w", err)
	}
	return os.RemoveAll(dir)
}
