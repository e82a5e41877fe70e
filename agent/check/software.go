package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coracle/agent/cni"
	"coracle/agent/config"
	"coracle/agent/image"
)

// containerdTimeout is short: a containerd that is there answers in milliseconds.
const containerdTimeout = 3 * time.Second

func containerd(ctx context.Context, cfg config.Config) Finding {
	socket := cfg.Containerd.Socket
	const name = "containerd"
	install := "install and start it: apt-get install containerd && systemctl enable --now containerd; or set containerd.socket in " + config.DefaultFile
	if _, err := os.Stat(socket); err != nil {
		return fail(name, "no socket: "+err.Error(), install)
	}
	images, err := image.New(image.Config{Address: socket, Namespace: cfg.Containerd.Namespace, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fail(name, err.Error(), install)
	}
	defer func() { _ = images.Close() }() // asked one question
	ctx, cancel := context.WithTimeout(ctx, containerdTimeout)
	defer cancel()
	v, err := images.Client().Version(ctx)
	if err != nil {
		return fail(name, "no answer at "+socket+": "+err.Error(), "look at journalctl -u containerd; "+install)
	}
	if !atLeast(v.Version, 1, 6) {
		return fail(name, v.Version+" at "+socket, "version 1.6 or later is needed: apt-get install containerd")
	}
	return ok(name, "%s at %s", v.Version, socket)
}

// atLeast compares versions such as "v2.1.0" and "1.6.20~ds1". What cannot be read passes: a
// development build has no number.
func atLeast(version string, major, minor int) bool {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return true
	}
	a, errA := strconv.Atoi(parts[0])
	b, errB := strconv.Atoi(parts[1])
	if errA != nil || errB != nil {
		return true
	}
	return a > major || a == major && b >= minor
}

func shim(context.Context, config.Config) Finding {
	const name = "containerd-shim-runc-v2"
	path, err := exec.LookPath(name)
	if err != nil {
		// containerd looks in its own PATH, which may hold more folders than ours.
		return warn("shim", name+" is not in PATH", "if containers do not start: reinstall containerd, whose package has it")
	}
	return ok("shim", "%s", path)
}

func ociRuntime(_ context.Context, cfg config.Config) Finding {
	var found []string
	for _, name := range []string{"crun", "runc"} {
		if _, err := exec.LookPath(name); err == nil {
			found = append(found, name)
		}
	}
	if want := cfg.Runtime; want != "auto" && !contains(found, want) {
		return fail("OCI runtime", want+" is configured and not in PATH", "apt-get install "+want+", or set runtime: auto in "+config.DefaultFile)
	}
	if len(found) == 0 {
		return fail("OCI runtime", "neither crun nor runc is in PATH", "apt-get install crun")
	}
	return ok("OCI runtime", "%s", strings.Join(found, ", "))
}

func cniPlugins(_ context.Context, cfg config.Config) Finding {
	var missing []string
	for _, p := range []string{"bridge", "host-local", "portmap"} {
		there := false
		for _, d := range cfg.CNI.BinDirs {
			if info, err := os.Stat(filepath.Join(d, p)); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				there = true
			}
		}
		if !there {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fail("CNI plugins", fmt.Sprintf("%s not in %s", strings.Join(missing, ", "), strings.Join(cfg.CNI.BinDirs, ", ")),
			"apt-get install containernetworking-plugins, or set cni.binDirs in "+config.DefaultFile)
	}
	return ok("CNI plugins", "bridge, host-local, portmap")
}

func cniConfig(_ context.Context, cfg config.Config) Finding {
	network, err := cni.Peek(cfg.CNI.ConfDir, cfg.CNI.BinDirs)
	switch {
	case errors.Is(err, cni.ErrNotReady):
		return ok("CNI network", "%s is empty: the agent writes %s once it knows its pod CIDR", cfg.CNI.ConfDir, cfg.CNI.ConfFile)
	case err != nil:
		return fail("CNI network", err.Error(), "mend the file, or remove it to have the agent write its own")
	}
	return ok("CNI network", "%s", network)
}

func iptables(context.Context, config.Config) Finding {
	if _, err := exec.LookPath("iptables"); err != nil {
		return warn("iptables", "not in PATH; pods with a hostPort cannot be started", "apt-get install iptables (the portmap plugin runs it)")
	}
	return ok("iptables", "present")
}
