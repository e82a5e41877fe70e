package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// hostFacts is what of the machine goes into a container's spec.
type hostFacts struct {
	Unified        bool     // cgroup v2
	SwapAccounting bool     // the memory controller counts swap
	Capabilities   []string // this process' bounding set: what it can hand on
	OOMFloor       int      // the least oom_score_adj that this process may set
	Seccomp        bool
	AppArmor       bool
	SELinux        bool
	Devices        []specs.LinuxDevice // all of the host's, for privileged containers
}

func readHostFacts(cfg Config) (hostFacts, error) {
	f := hostFacts{Unified: cfg.Unified, OOMFloor: -1000}
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return f, fmt.Errorf("runtime: %w", err)
	}
	defer status.Close()
	sets, err := cap.ParseProcPIDStatus(status)
	if err != nil {
		return f, fmt.Errorf("runtime: read capabilities: %w", err)
	}
	f.Capabilities, _ = cap.FromBitmap(sets[cap.Bounding])
	if effective, _ := cap.FromBitmap(sets[cap.Effective]); !contains(effective, "CAP_SYS_RESOURCE") {
		f.OOMFloor = ownOOMScore()
	}
	_, err = os.Stat("/proc/sys/kernel/seccomp/actions_avail")
	f.Seccomp = err == nil
	f.AppArmor, _ = AppArmor()
	_, err = os.Stat(filepath.Join(selinuxDir, "enforce"))
	f.SELinux = err == nil
	f.SwapAccounting = cfg.SwapLimits
	f.Devices, err = hostDevices("/dev")
	return f, err
}

// deviceNode is the device of a file's state, to be made at path.
func deviceNode(path string, st unix.Stat_t) specs.LinuxDevice {
	kind := "b"
	if st.Mode&unix.S_IFMT == unix.S_IFCHR {
		kind = "c"
	}
	mode := fs.FileMode(st.Mode & 0o7777)
	uid, gid := st.Uid, st.Gid
	return specs.LinuxDevice{
		Path: path, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &uid, GID: &gid,
	}
}

// OOMFloor is the least oom_score_adj that containers can be given; lower ones are raised to it.
func (r *Runtime) OOMFloor() int { return r.host.OOMFloor }

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

func ownOOMScore() int {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return n
}

// hostDevices lists the device nodes below dir that a privileged container sees.
func hostDevices(dir string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return nil
			}
			return err
		}
		if e.IsDir() {
			switch e.Name() {
			case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
				return filepath.SkipDir
			}
			return nil
		}
		if e.Name() == "console" || e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			return nil //nolint:nilerr // gone since it was listed
		}
		out = append(out, deviceNode(path, st))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("runtime: list devices: %w", err)
	}
	return out, nil
}
