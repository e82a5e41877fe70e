package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"coracle/internal/fault"
)

// pin is one namespace that is kept alive by a bind mount.
type pin struct {
	file string // name below ns/, and in /proc/<pid>/ns
	flag int
}

var (
	pinNet = pin{"net", unix.CLONE_NEWNET}
	pinIPC = pin{"ipc", unix.CLONE_NEWIPC}
	pinUTS = pin{"uts", unix.CLONE_NEWUTS}
)

// pinned reports whether path is a namespace, not the plain file that a reboot leaves.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && uint32(st.Type) == unix.NSFS_MAGIC
}

// makeNamespaces makes new namespaces, sets them up and pins them below dir. It runs in a thread
// of its own, which ends with it: a thread that has left the host's namespaces must not be used again.
func makeNamespaces(dir string, pins []pin, hostname string, sysctls map[string]string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	return onThrowawayThread(func() error { return setUpNamespaces(dir, pins, hostname, sysctls) })
}

// onThrowawayThread runs f on a thread that ends with it. The process' first thread cannot end
// and would carry the namespaces, which /proc/self shows, for ever: it is kept busy meanwhile.
func onThrowawayThread(f func() error) error {
	done := make(chan error, 1)
	go func() { // waited for below
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThrowawayThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked: the thread ends here
	}()
	return <-done
}

func setUpNamespaces(dir string, pins []pin, hostname string, sysctls map[string]string) error {
	flags := 0
	for _, p := range pins {
		flags |= p.flag
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := configureNamespaces(pins, hostname, sysctls); err != nil {
		return err
	}
	for _, p := range pins {
		source := fmt.Sprintf("/proc/self/task/%d/ns/%s", unix.Gettid(), p.file)
		if err := bindFile(source, filepath.Join(dir, p.file)); err != nil {
			return fmt.Errorf("pin %s namespace: %w", p.file, err)
		}
	}
	return nil
}

// configureNamespaces sets up the new namespaces that the calling thread is in.
func configureNamespaces(pins []pin, hostname string, sysctls map[string]string) error {
	made := map[string]bool{}
	for _, p := range pins {
		made[p.file] = true
	}
	if made[pinUTS.file] && hostname != "" {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set hostname %s: %w", hostname, err)
		}
	}
	if made[pinNet.file] {
		if err := loopbackUp(); err != nil {
			return err
		}
		// As container runtimes have it: unprivileged ping and ports below 1024. Kernels may lack the files.
		for name, value := range map[string]string{"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"} {
			if err := setSysctl(name, value); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	for name, value := range sysctls {
		if err := checkSysctl(name, made); err != nil {
			return err
		}
		if err := setSysctl(name, value); err != nil {
			return err
		}
	}
	return nil
}

func bindFile(source, target string) error {
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", target, err)
	}
	return nil
}

// loopbackUp brings up lo in the thread's network namespace, as CNI's loopback plugin may not be configured.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // a socket that was only asked
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	return nil
}

// checkSysctl lets through what belongs to a namespace that the pod has for itself.
func checkSysctl(name string, made map[string]bool) error {
	name = strings.ReplaceAll(name, "/", ".")
	kind := ""
	switch {
	case strings.HasPrefix(name, "net."):
		kind = pinNet.file
	case strings.HasPrefix(name, "kernel.shm"), strings.HasPrefix(name, "kernel.msg"), name == "kernel.sem", strings.HasPrefix(name, "fs.mqueue."):
		kind = pinIPC.file
	case name == "kernel.domainname":
		kind = pinUTS.file
	}
	switch {
	case kind == "":
		return fault.Invalid(fmt.Sprintf("sysctl %q belongs to the whole node, not to a pod", name))
	case !made[kind]:
		return fault.Invalid(fmt.Sprintf("sysctl %q: the pod shares the node's %s namespace", name, kind))
	}
	return nil
}

func setSysctl(name, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	if strings.Contains(name, "/") { // net/ipv4/conf/eth0.1/forwarding: slashes separate, dots belong to names
		path = filepath.Join("/proc/sys", name)
	}
	if !strings.HasPrefix(path, "/proc/sys/") {
		return fault.Invalid(fmt.Sprintf("sysctl %q leaves /proc/sys", name))
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s=%s: %w", name, value, err)
	}
	return nil
}

// unmountBelow detaches every pin and mount of a sandbox directory, and is content where there is none.
func unmountBelow(paths ...string) error {
	var errs []error
	for _, path := range paths {
		for {
			err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if err == nil {
				continue // stacked by a maker that was killed between mount and record
			}
			if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
			}
			break
		}
	}
	return errors.Join(errs...)
}
