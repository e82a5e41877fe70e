package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// Load gives the effective configuration for a command line: defaults, then the file,
// then flags. args are the flags of one command; extra, when not nil, adds flags of the
// command's own. Every error it returns is the user's to mend (exit code 2); pflag.ErrHelp
// means that help was asked for and printed.
func Load(command string, args []string, extra func(*pflag.FlagSet)) (Config, error) {
	// Parsed twice: once to learn of --config, once to lay the flags over the file.
	var path string
	scratch := Default()
	first := newFlagSet(command, &scratch, &path)
	if extra != nil {
		extra(first)
	}
	if err := first.Parse(args); err != nil {
		return Config{}, err
	}
	if rest := first.Args(); len(rest) > 0 {
		return Config{}, fmt.Errorf("%s takes no arguments, got %q", command, rest)
	}

	cfg := Default()
	if err := readFile(path, first.Changed("config"), &cfg); err != nil {
		return Config{}, err
	}
	second := newFlagSet(command, &cfg, &path)
	if extra != nil {
		extra(second)
	}
	if err := second.Parse(args); err != nil {
		return Config{}, err
	}
	if err := cfg.Validate(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// readFile lays the file over cfg. A missing default file is nothing; a missing named one is an error.
func readFile(path string, named bool, cfg *Config) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := Parse(data, cfg); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Parse lays one YAML document over cfg. Unknown and repeated keys are errors.
func Parse(data []byte, cfg *Config) error {
	if err := yaml.UnmarshalStrict(data, cfg); err != nil {
		return fmt.Errorf("parse configuration: %w", err)
	}
	return nil
}

// YAML is the configuration as a file that Parse reads back.
func (c *Config) YAML() ([]byte, error) {
	return yaml.Marshal(c)
}

func newFlagSet(command string, c *Config, path *string) *pflag.FlagSet {
	f := pflag.NewFlagSet("coracle-agent "+command, pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(path, "config", DefaultFile, "configuration file (YAML); a flag wins over it")
	bind(f, c)
	return f
}

// bind makes one flag for each field, named as the field is in the file.
func bind(f *pflag.FlagSet, c *Config) {
	f.StringVar(&c.NodeName, "node-name", c.NodeName, "name of this Node (default: the certificate's, else the host name)")
	f.StringVar(&c.Server, "server", c.Server, "gateway of the control plane, HOST:PORT")
	f.StringVar(&c.StateDir, "state-dir", c.StateDir, "what must survive a reboot")
	f.StringVar(&c.RootDir, "root-dir", c.RootDir, "pods' volumes")
	f.StringVar(&c.RunDir, "run-dir", c.RunDir, "namespaces, FIFOs and sockets; on a tmpfs")
	f.StringVar(&c.LogDir, "log-dir", c.LogDir, "containers' logs")
	f.StringVar(&c.Containerd.Socket, "containerd-socket", c.Containerd.Socket, "containerd's gRPC socket")
	f.StringVar(&c.Containerd.Namespace, "containerd-namespace", c.Containerd.Namespace, "namespace in containerd")
	f.StringVar(&c.Containerd.Snapshotter, "containerd-snapshotter", c.Containerd.Snapshotter, "snapshotter (default: overlayfs where it works)")
	f.StringVar(&c.Containerd.CertsDir, "containerd-certs-dir", c.Containerd.CertsDir, "registry host configuration")
	f.StringVar(&c.CNI.ConfDir, "cni-conf-dir", c.CNI.ConfDir, "CNI conflists; the lexically first is used")
	f.StringSliceVar(&c.CNI.BinDirs, "cni-bin-dirs", c.CNI.BinDirs, "CNI plugins, in order of search")
	f.StringVar(&c.CNI.ConfFile, "cni-conf-file", c.CNI.ConfFile, "name of the agent's own conflist")
	f.StringVar(&c.CNI.Bridge, "cni-bridge", c.CNI.Bridge, "bridge of the agent's own conflist")
	f.IntVar(&c.CNI.MTU, "cni-mtu", c.CNI.MTU, "MTU of the agent's own conflist (0: that of the default route's link)")
	f.StringVar(&c.Runtime, "runtime", c.Runtime, "OCI runtime: auto, crun or runc")
	f.IntVar(&c.PodsPerShim, "pods-per-shim", c.PodsPerShim, "pods that share one containerd shim")
	f.IntVar(&c.MaxPods, "max-pods", c.MaxPods, "pod capacity of the node")
	f.StringVar(&c.CgroupDriver, "cgroup-driver", c.CgroupDriver, "auto, systemd or cgroupfs")
	f.StringVar(&c.CgroupRoot, "cgroup-root", c.CgroupRoot, "cgroup under which the pods' groups are made")
	f.StringSliceVar(&c.ClusterDNS, "cluster-dns", c.ClusterDNS, "cluster DNS addresses (default: as the control plane announces)")
	f.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "cluster domain (default: as the control plane announces)")
	f.StringVar(&c.ResolvConf, "resolv-conf", c.ResolvConf, "resolver configuration for pods of dnsPolicy Default")
	f.StringVar(&c.PodCIDR, "pod-cidr", c.PodCIDR, "pod CIDR (default: the Node object's)")
	f.StringVar(&c.NodeIP, "node-ip", c.NodeIP, "the node's own address, or the interface that has it")
	f.StringToStringVar(&c.Labels, "labels", c.Labels, "labels to register the Node with")
	f.BoolVar(&c.SeccompDefault, "seccomp-default", c.SeccompDefault, "confine containers that name no seccomp profile")
	f.StringSliceVar(&c.Taints, "taints", c.Taints, "taints to register the Node with, key=value:Effect")
	f.StringToStringVar(&c.Reserved, "reserved", c.Reserved, "resources kept from pods: cpu, memory, ephemeral-storage, pid")
	f.Int64Var(&c.PodPidsLimit, "pod-pids-limit", c.PodPidsLimit, "processes and threads that a pod may have; 0: no limit")
	f.StringVar(&c.Memory.Swap, "memory-swap", c.Memory.Swap, "NoSwap, or LimitedSwap (cgroup v2)")
	f.StringVar(&c.Memory.Reservation, "memory-reservation", c.Memory.Reservation, "none, or tiered (cgroup v2)")
	f.Float64Var(&c.Memory.Throttling, "memory-throttling", c.Memory.Throttling, "share of its room from which on a container is slowed down (cgroup v2); 0: never")
	f.StringToStringVar(&c.EvictionHard, "eviction-hard", c.EvictionHard, "limits below which pods are evicted, such as memory.available=100Mi; others keep their defaults")
	f.StringToStringVar(&c.EvictionSoft, "eviction-soft", c.EvictionSoft, "limits below which pods are evicted after a grace period")
	f.StringToStringVar(&c.EvictionSoftGracePeriod, "eviction-soft-grace-period", c.EvictionSoftGracePeriod, "grace periods of eviction-soft")
	f.Int64Var(&c.EvictionMaxPodGracePeriod, "eviction-max-pod-grace-period", c.EvictionMaxPodGracePeriod, "most seconds that pods evicted for a soft limit get to end")
	f.StringToStringVar(&c.EvictionMinimumReclaim, "eviction-minimum-reclaim", c.EvictionMinimumReclaim, "what must be free beyond a limit once it was met")
	f.StringVar(&c.EvictionPressureTransitionPeriod, "eviction-pressure-transition-period", c.EvictionPressureTransitionPeriod, "how long a pressure condition outlasts the pressure")
	f.StringVar(&c.ShutdownGracePeriod, "shutdown-grace-period", c.ShutdownGracePeriod, "how long a shutdown of the machine waits for pods")
	f.StringVar(&c.ShutdownGracePeriodCriticalPods, "shutdown-grace-period-critical-pods", c.ShutdownGracePeriodCriticalPods, "the part of it kept for critical pods")
	f.Var((*priorityGraces)(&c.ShutdownGracePeriodByPodPriority), "shutdown-grace-period-by-pod-priority", "PRIORITY=SECONDS, comma-separated, instead of both")
	f.StringToStringVar(&c.RuntimeHandlers, "runtime-handlers", c.RuntimeHandlers, "handlers for RuntimeClasses, NAME=PATH of an OCI runtime or NAME=SHIM[:CONFIG]")
	f.StringVar(&c.StaticPodDir, "static-pod-dir", c.StaticPodDir, "folder of pods that this node runs by itself; empty for none")
	f.StringVar(&c.MaxRestartBackOff, "max-restart-back-off", c.MaxRestartBackOff, "longest wait before a failing container is restarted, 1s to 5m")
	f.StringSliceVar(&c.AllowedUnsafeSysctls, "allowed-unsafe-sysctls", c.AllowedUnsafeSysctls, "sysctls that pods may set beyond the safe ones")
	f.StringVar(&c.Logs.MaxSize, "log-max-size", c.Logs.MaxSize, "size at which a container's log is rotated")
	f.IntVar(&c.Logs.MaxFiles, "log-max-files", c.Logs.MaxFiles, "log files kept for each container")
	f.IntVar(&c.Images.MaxParallelPulls, "images-max-parallel-pulls", c.Images.MaxParallelPulls, "images pulled at a time")
	f.StringVar(&c.Images.CredentialProviderConfig, "images-credential-provider-config", c.Images.CredentialProviderConfig, "CredentialProviderConfig file, or a folder of them")
	f.StringVar(&c.Images.CredentialProviderBinDir, "images-credential-provider-bin-dir", c.Images.CredentialProviderBinDir, "programs that give credentials for registries")
	f.IntVar(&c.Images.GCHighThresholdPercent, "images-gc-high-threshold-percent", c.Images.GCHighThresholdPercent, "use of the disk above which unused images are removed; 100: never")
	f.IntVar(&c.Images.GCLowThresholdPercent, "images-gc-low-threshold-percent", c.Images.GCLowThresholdPercent, "use of the disk down to which unused images are removed")
	f.StringVar(&c.Images.MinimumGCAge, "images-minimum-gc-age", c.Images.MinimumGCAge, "how long an image is kept after its last use")
	f.StringVar(&c.Images.MaximumGCAge, "images-maximum-gc-age", c.Images.MaximumGCAge, "after how long without use an image is removed; 0: never for that alone")
	f.StringVar(&c.Images.GCPeriod, "images-gc-period", c.Images.GCPeriod, "how often the disk of images is looked at")
	f.StringVar(&c.Poll, "poll", c.Poll, "hang up after each exchange and come back after this long; 0: stay connected")
	f.StringVar(&c.MemoryLimit, "memory-limit", c.MemoryLimit, "soft limit of the agent's own heap; 0 for none")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
}
