package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/podinit"
	"coracle/internal/fault"
)

// A pod with hostUsers: false has users of its own: 65536 ids of the machine that no other pod has. Its namespaces
// belong to a user namespace, in which ids count from 0; what is outside of it sees ids from the pod's base on.
// Files keep the ids that the pod knows (see idmap.go), so the base may be another one after a reboot.

// idBlock is how many ids such a pod has, and the distance of one base from the next. The first block is the machine's own.
const idBlock = 65536

var pinUser = pin{"user", unix.CLONE_NEWUSER}

// assignBase gives a pod the first block that no sandbox has.
func (r *Runtime) assignBase(uid types.UID) (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bases == nil {
		entries, err := os.ReadDir(filepath.Join(r.cfg.RunDir, "pods"))
		if err != nil {
			return 0, fmt.Errorf("read the pods' user ids: %w", err)
		}
		r.bases = map[types.UID]uint32{}
		for _, e := range entries {
			if record, err := r.readSandbox(types.UID(e.Name())); err == nil && record.Base != 0 {
				r.bases[types.UID(e.Name())] = record.Base
			}
		}
	}
	if base, ok := r.bases[uid]; ok {
		return base, nil
	}
	base := firstFree(r.bases)
	if base == 0 {
		return 0, fault.As(fault.ErrUnavailable, errors.New("every block of user ids belongs to a pod"))
	}
	r.bases[uid] = base
	return base, nil
}

// firstFree is the least base that is not taken; 0: there is none.
func firstFree[K comparable](taken map[K]uint32) uint32 {
	used := map[uint32]bool{}
	for _, base := range taken {
		used[base] = true
	}
	const last = 1<<32 - 2*idBlock // the last block holds the id that means "none"
	for base := uint32(idBlock); base <= last; base += idBlock {
		if !used[base] {
			return base
		}
	}
	return 0
}

// idMappings is the block as the OCI spec writes it; nil for a pod with the machine's users.
func idMappings(base uint32) []specs.LinuxIDMapping {
	if base == 0 {
		return nil
	}
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: base, Size: idBlock}}
}

// makeUserNamespaces is makeNamespaces with all of them in a new user namespace. A process with threads cannot make
// one for itself; a small one is started in it, and ends when its namespaces are pinned.
func makeUserNamespaces(dir string, pins []pin, base uint32, hostname string, sysctls map[string]string) (err error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	program, err := programInMemory()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	flags := pinUser.flag
	for _, p := range pins {
		flags |= p.flag
	}
	mapping := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(base), Size: idBlock}}
	cmd := &exec.Cmd{
		Path: "/proc/self/fd/" + strconv.Itoa(int(program.Fd())), Args: []string{"coracle-namespaces"}, Env: []string{},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: uintptr(flags), UidMappings: mapping, GidMappings: mapping, GidMappingsEnableSetgroups: true,
			Pdeathsig: syscall.SIGKILL, // it must not outlive an agent that is killed here
		},
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that starts it
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("make user namespace (user.max_user_namespaces and kernel.unprivileged_userns_clone may forbid it): %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill() // Wait tells whether it ended
		_ = cmd.Wait()         // killed, as intended
	}()
	if err := onThrowawayThread(func() error { return configureFrom(cmd.Process.Pid, pins, hostname, sysctls) }); err != nil {
		return err
	}
	for _, p := range append([]pin{pinUser}, pins...) {
		if err := bindFile(fmt.Sprintf("/proc/%d/ns/%s", cmd.Process.Pid, p.file), filepath.Join(dir, p.file)); err != nil {
			return fmt.Errorf("pin %s namespace: %w", p.file, err)
		}
	}
	return nil
}

// configureFrom enters the namespaces of a process and sets them up. The calling thread must end with it.
func configureFrom(pid int, pins []pin, hostname string, sysctls map[string]string) error {
	for _, p := range pins {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, p.file))
		if err != nil {
			return err
		}
		err = unix.Setns(int(f.Fd()), p.flag)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("enter %s namespace: %w", p.file, err)
		}
	}
	return configureNamespaces(pins, hostname, sysctls)
}

// programInMemory is a program that does nothing for as long as it is let, as an executable file of its own: /run
// may be mounted so that nothing on it can be run.
func programInMemory() (*os.File, error) {
	program, err := podinit.Binary(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	// What is open for writing cannot be run, also if a process that is being started beside this has it open. So it
	// is run through a second, read-only descriptor, and none is started while there is the first.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.MemfdCreate("coracle-namespaces", unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all of them can be run
		fd, err = unix.MemfdCreate("coracle-namespaces", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("make program in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "coracle-namespaces")
	_, err = f.Write(program)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make program in memory: %w", err), f.Close())
	}
	read, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	return read, errors.Join(err, f.Close())
}

// UserNamespaceObstacle says why this machine cannot give pods users of their own; nil where it can.
func UserNamespaceObstacle() error {
	if _, err := os.Stat("/proc/self/ns/user"); errors.Is(err, fs.ErrNotExist) {
		return errors.New("the kernel has no user namespaces (CONFIG_USER_NS)")
	}
	if data, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err == nil && string(data) == "0\n" {
		return errors.New("user namespaces are switched off (sysctl user.max_user_namespaces=0)")
	}
	if !hasMountAttributes() {
		return errors.New("the kernel has no id-mapped mounts (Linux 5.12 or later is needed, 6.3 for volumes in memory)")
	}
	return nil
}
