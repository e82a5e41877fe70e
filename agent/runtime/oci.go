package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"coracle/internal/fault"
)

// shimRuntime is containerd's shim for OCI runtimes, in 1.6 and 2.x.
const shimRuntime = "io.containerd.runc.v2"

// ociRuntime is the program that makes containers, as chosen for this machine.
type ociRuntime struct {
	path string
	why  string // for the log, in one clause
}

// searchPath is where OCI runtimes are looked for beyond PATH, which may be short in a unit.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// chooseRuntime decides once: crun where it is there and can work with the machine's cgroups, as
// it costs a quarter of runc's CPU; else runc.
func (r *Runtime) chooseRuntime() (ociRuntime, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.oci.path != "" {
		return r.oci, nil
	}
	chosen, err := choose(r.cfg.OCIRuntime, findProgram, r.crunObstacle())
	if err != nil {
		return ociRuntime{}, err
	}
	r.log.Info("OCI runtime chosen", "runtime", chosen.path, "why", chosen.why)
	r.oci = chosen
	return chosen, nil
}

// OCIRuntime is the path of the OCI runtime that containers are made with.
func (r *Runtime) OCIRuntime() (string, error) {
	chosen, err := r.chooseRuntime()
	return chosen.path, err
}

func choose(want string, find func(string) string, obstacle string) (ociRuntime, error) {
	crun, runc := find("crun"), find("runc")
	switch {
	case want == "crun" && crun == "":
		return ociRuntime{}, fault.As(fault.ErrUnavailable, errors.New("OCI runtime crun is configured but not installed (apt-get install crun)"))
	case want == "crun" && obstacle == misplaced:
		return ociRuntime{}, fault.As(fault.ErrUnavailable, errors.New("OCI runtime crun is configured, but "+obstacle+": set runtime to runc, or cgroupDriver to cgroupfs"))
	case want == "crun":
		return ociRuntime{crun, "configured"}, nil
	case want == "runc" && runc == "":
		return ociRuntime{}, fault.As(fault.ErrUnavailable, errors.New("OCI runtime runc is configured but not installed (apt-get install runc)"))
	case want == "runc":
		return ociRuntime{runc, "configured"}, nil
	case crun != "" && obstacle == "":
		return ociRuntime{crun, "installed and usable"}, nil
	case runc != "" && crun != "":
		return ociRuntime{runc, "crun is installed but " + obstacle}, nil
	case runc != "":
		return ociRuntime{runc, "crun is not installed"}, nil
	case crun != "":
		return ociRuntime{}, fault.As(fault.ErrUnavailable, fmt.Errorf("OCI runtime: crun is installed but %s, and runc is not installed (apt-get install runc)", obstacle))
	}
	return ociRuntime{}, fault.As(fault.ErrUnavailable, errors.New("OCI runtime: neither crun nor runc is installed (apt-get install crun runc)"))
}

func findProgram(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range searchPath {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// misplaced is what was seen with crun 1.8 in a machine that systemd had booted with cgroup v1: all containers of the node were
// in one group, /container, of each controller. runc makes the groups itself.
const misplaced = "with the systemd driver on cgroup v1 it does not put containers below their pod's limits"

func (r *Runtime) crunObstacle() string {
	if r.cfg.Systemd && !r.cfg.Unified {
		return misplaced
	}
	return crunObstacle("/sys/fs/cgroup")
}

// crunObstacle says why crun would refuse this machine's cgroups; empty where it would not. crun
// works with v2 alone and with v1 alone, but not with v1 beside a v2 mount that has controllers.
func crunObstacle(root string) string {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(root, "unified", "cgroup.controllers"))
	if err != nil {
		return ""
	}
	if have := strings.TrimSpace(string(data)); have != "" {
		return "cgroup v2 at " + root + "/unified holds controllers (" + have + ") beside v1"
	}
	return ""
}
