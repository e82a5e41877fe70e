package runtime

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"

	"coracle/internal/fault"
)

// handler is what runs the containers of pods whose RuntimeClass names it.
type handler struct {
	shim   string // containerd's name
	binary string // OCI runtime, for runc's shim alone; empty: the node's own
	config string // file of other shims
}

// parseHandler reads one of the configuration: the path of an OCI runtime, or SHIM or SHIM:CONFIG.
func parseHandler(value string) handler {
	if filepath.IsAbs(value) {
		return handler{shim: shimRuntime, binary: value}
	}
	shim, config, _ := strings.Cut(value, ":")
	return handler{shim: shim, config: config}
}

// findHandler finds what a RuntimeClass names. One that the node does not have is an error of class Unavailable, as it may
// come with a new configuration.
func (r *Runtime) findHandler(name string) (handler, error) {
	if name == "" {
		return handler{shim: shimRuntime}, nil
	}
	if value, ok := r.cfg.Handlers[name]; ok {
		return parseHandler(value), nil
	}
	if name == "runc" || name == "crun" {
		if path := findProgram(name); path != "" && (name == "runc" || r.crunObstacle() == "") {
			return handler{shim: shimRuntime, binary: path}, nil
		}
	}
	return handler{}, fault.As(fault.ErrUnavailable, fmt.Errorf("no runtime for %q is configured; this node has %s (runtimeHandlers in the agent's configuration adds to them)", name, listed(r.Handlers())))
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Handlers are the names that RuntimeClasses may use on this node, sorted; without the default, which has none.
func (r *Runtime) Handlers() []string {
	var out []string
	for name := range r.cfg.Handlers {
		out = append(out, name)
	}
	for _, name := range []string{"runc", "crun"} {
		if r.cfg.Handlers[name] == "" && findProgram(name) != "" && (name == "runc" || r.crunObstacle() == "") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// runtimeInfo is what goes into a container's record.
func (r *Runtime) runtimeInfo(name string) (containers.RuntimeInfo, error) {
	h, err := r.findHandler(name)
	if err != nil {
		return containers.RuntimeInfo{}, err
	}
	if h.shim != shimRuntime {
		info := containers.RuntimeInfo{Name: h.shim}
		if h.config == "" {
			return info, nil
		}
		info.Options, err = typeurl.MarshalAny(&runtimeoptions.Options{TypeUrl: h.shim + ".options", ConfigPath: h.config})
		if err != nil {
			return info, fmt.Errorf("write runtime options: %w", err)
		}
		return info, nil
	}
	if h.binary == "" {
		chosen, err := r.chooseRuntime()
		if err != nil {
			return containers.RuntimeInfo{}, err
		}
		h.binary = chosen.path
	}
	any, err := typeurl.MarshalAny(&options.Options{
		BinaryName: h.binary, SystemdCgroup: r.cfg.Systemd,
		// containerd's default is one directory for all containerds of a machine.
		Root: filepath.Join(r.cfg.RunDir, "oci"),
	})
	if err != nil {
		return containers.RuntimeInfo{}, fmt.Errorf("write runtime options: %w", err)
	}
	return containers.RuntimeInfo{Name: shimRuntime, Options: any}, nil
}
