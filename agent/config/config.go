// Package config is the agent's configuration: one struct, its defaults, a strict YAML
// file, flags for every field, and validation.
//
// Precedence is flag, then file, then default. An unknown key in the file is an error, so
// that a typing mistake is never silently a default. The package reads the file and
// nothing else of the machine; facts are agent/fact's and probing is `coracle-agent check`'s.
package config

import (
	"path/filepath"
	"runtime"

	"coracle/agent/evict"
)

// DefaultFile is read when it exists and --config is not given.
const DefaultFile = "/etc/coracle/agent.yaml"

// Config is everything that can be set about an agent. The zero value is not usable:
// start from Default.
type Config struct {
	// NodeName is the name of this machine's Node object. Default: the certificate's, else the
	// host name in lower case. It is fixed once the node has joined.
	NodeName string `json:"nodeName,omitempty"`
	// Server is the gateway's HOST:PORT. Default: what `join` was given. Set it when the control plane moves.
	Server string `json:"server,omitempty"`

	// StateDir holds what must survive a reboot: the store, the node's key and certificate, CNI results.
	StateDir string `json:"stateDir,omitempty"`
	// RootDir holds the pods' volumes. CSI drivers mount the default path; change it only to run
	// several nodes on one machine.
	RootDir string `json:"rootDir,omitempty"`
	// RunDir holds what must not survive a reboot: pinned namespaces, log FIFOs, sockets. Must be on a tmpfs, as /run is.
	RunDir string `json:"runDir,omitempty"`
	// LogDir holds the containers' logs, one folder for each pod.
	LogDir string `json:"logDir,omitempty"`

	Containerd Containerd `json:"containerd,omitempty"`
	CNI        CNI        `json:"cni,omitempty"`

	// Runtime is the OCI runtime: "crun", "runc", or "auto" for crun where it is installed and works here.
	Runtime string `json:"runtime,omitempty"`
	// PodsPerShim is how many pods share one containerd shim. 1 isolates best; 10 saves 4 MB for each pod.
	PodsPerShim int `json:"podsPerShim,omitempty"`
	// MaxPods is the node's pod capacity.
	MaxPods int `json:"maxPods,omitempty"`

	// CgroupDriver is "systemd", "cgroupfs", or "auto" for systemd where it is PID 1.
	CgroupDriver string `json:"cgroupDriver,omitempty"`
	// CgroupRoot is the group under which the pods' groups are made, "/" by default.
	CgroupRoot string `json:"cgroupRoot,omitempty"`

	// ClusterDNS overrides the DNS addresses that the control plane announces.
	ClusterDNS []string `json:"clusterDNS,omitempty"`
	// ClusterDomain overrides the domain that the control plane announces, "cluster.local" there.
	ClusterDomain string `json:"clusterDomain,omitempty"`
	// ResolvConf is the resolver configuration that pods of dnsPolicy Default get.
	ResolvConf string `json:"resolvConf,omitempty"`
	// PodCIDR overrides the node's pod CIDR, which otherwise comes from the Node object. Comma-separated for dual stack.
	PodCIDR string `json:"podCIDR,omitempty"`
	// SeccompDefault gives containers that name no seccomp profile the runtime's default one instead of none, as
	// kubelet's field of the same name does.
	SeccompDefault bool `json:"seccompDefault,omitempty"`
	// NodeIP overrides the node's own address, otherwise the source address of its default route.
	// It may name an address or an interface ("eth1").
	NodeIP string `json:"nodeIP,omitempty"`

	// Labels and Taints are given to the Node when it registers. A taint reads key=value:Effect or key:Effect.
	Labels map[string]string `json:"labels,omitempty"`
	Taints []string          `json:"taints,omitempty"`
	// Reserved is kept from pods, by resource: cpu, memory, ephemeral-storage, pid. Capacity less this is allocatable.
	Reserved map[string]string `json:"reserved,omitempty"`

	// StaticPodDir is the folder of pods that this node runs by itself, one file each, with or without a control plane.
	// It need not exist. Empty: none.
	StaticPodDir string `json:"staticPodDir,omitempty"`
	// AllowedUnsafeSysctls are those that pods may set beyond the ones that Kubernetes holds safe; "net.core.*" allows all below it.
	AllowedUnsafeSysctls []string `json:"allowedUnsafeSysctls,omitempty"`

	// MaxRestartBackOff bounds the wait before a container that fails again and again is restarted: 5m, or less, down to 1s.
	MaxRestartBackOff string `json:"maxRestartBackOff,omitempty"`

	// PodPidsLimit is how many processes and threads a pod may have; 0 for as many as the node allows.
	PodPidsLimit int64 `json:"podPidsLimit,omitempty"`
	// Memory says how containers' memory is treated beyond their limits.
	Memory Memory `json:"memory,omitempty"`

	// EvictionHard are the limits below which pods are ended at once, by signal: memory.available, nodefs.available,
	// nodefs.inodesFree, imagefs.available, imagefs.inodesFree, pid.available; amounts ("100Mi") or shares ("10%").
	// A signal that is left out keeps its default; "0" takes its limit away.
	EvictionHard map[string]string `json:"evictionHard,omitempty"`
	// EvictionSoft are limits that must have been met for as long as EvictionSoftGracePeriod says, by signal.
	EvictionSoft            map[string]string `json:"evictionSoft,omitempty"`
	EvictionSoftGracePeriod map[string]string `json:"evictionSoftGracePeriod,omitempty"`
	// EvictionMaxPodGracePeriod bounds, in seconds, what pods get to end that go because of a soft limit.
	EvictionMaxPodGracePeriod int64 `json:"evictionMaxPodGracePeriod,omitempty"`
	// EvictionMinimumReclaim is how much more than a limit must be free again before the node is left alone, by signal.
	EvictionMinimumReclaim map[string]string `json:"evictionMinimumReclaim,omitempty"`
	// EvictionPressureTransitionPeriod is how long a pressure condition stays after its limit was last met: 5m.
	EvictionPressureTransitionPeriod string `json:"evictionPressureTransitionPeriod,omitempty"`

	// ShutdownGracePeriod is how long a shutdown of the machine waits for pods, such as 60s; 0, the default: not at all.
	// It takes systemd's logind.
	ShutdownGracePeriod string `json:"shutdownGracePeriod,omitempty"`
	// ShutdownGracePeriodCriticalPods is the part of it, at the end, that is kept for critical pods.
	ShutdownGracePeriodCriticalPods string `json:"shutdownGracePeriodCriticalPods,omitempty"`
	// ShutdownGracePeriodByPodPriority takes the place of both: pods of a priority from this one on get so many seconds,
	// and those of lower priority end first.
	ShutdownGracePeriodByPodPriority []PriorityGrace `json:"shutdownGracePeriodByPodPriority,omitempty"`

	// RuntimeHandlers are what RuntimeClasses may name as their handler, beside "runc" and "crun", which are there where the
	// programs are. A value is an OCI runtime's path ("/usr/local/bin/youki"), or one of containerd's shims with, where it
	// takes one, the path of its configuration ("io.containerd.runsc.v1:/etc/runsc.toml").
	RuntimeHandlers map[string]string `json:"runtimeHandlers,omitempty"`

	Logs Logs `json:"logs,omitempty"`

	Images Images `json:"images,omitempty"`

	// Poll is for metered links: connect, exchange, hang up, and come back after this long, such as 5m.
	// 0, the default, keeps the connection; logs and exec need that.
	Poll string `json:"poll,omitempty"`

	// MemoryLimit is the soft limit of the agent's own heap, such as 48Mi; "0" for none.
	MemoryLimit string `json:"memoryLimit,omitempty"`
	// LogLevel of the agent itself: debug, info, warn, error.
	LogLevel string `json:"logLevel,omitempty"`
}

// Containerd says where containerd is.
type Containerd struct {
	// Socket is containerd's gRPC socket.
	Socket string `json:"socket,omitempty"`
	// Namespace in containerd holds all that is the agent's.
	Namespace string `json:"namespace,omitempty"`
	// Snapshotter unpacks images; empty: overlayfs where the kernel has it, else native.
	Snapshotter string `json:"snapshotter,omitempty"`
	// CertsDir holds the registry host configuration, one folder for each registry.
	CertsDir string `json:"certsDir,omitempty"`
}

// CNI says where CNI configuration and plugins are, and shapes the conflist that the
// agent writes when there is none.
type CNI struct {
	// ConfDir is read for conflists; the lexically first is used.
	ConfDir string `json:"confDir,omitempty"`
	// BinDirs are searched for plugins, in order.
	BinDirs []string `json:"binDirs,omitempty"`
	// ConfFile is the name of the agent's own conflist in ConfDir. It sorts late, so that any other wins.
	ConfFile string `json:"confFile,omitempty"`
	// Bridge is the link that the agent's own conflist attaches pods to, at most 15 characters.
	Bridge string `json:"bridge,omitempty"`
	// MTU of the agent's own conflist; 0: that of the link with the default route.
	MTU int `json:"mtu,omitempty"`
}

// Memory is how containers' memory is treated beyond their limits. All but NoSwap and none need cgroup v2.
type Memory struct {
	// Swap is "NoSwap", or "LimitedSwap" for burstable pods' containers to swap in proportion to what they ask for.
	Swap string `json:"swap,omitempty"`
	// Reservation is "none", or "tiered" to keep what pods ask for from being reclaimed: surely for guaranteed pods, where
	// possible for burstable ones.
	Reservation string `json:"reservation,omitempty"`
	// Throttling slows containers down before they reach their limit, from this share of their room on, such as 0.9;
	// 0, the default, does not.
	Throttling float64 `json:"throttling,omitempty"`
}

// PriorityGrace is the grace of pods from a priority on, at a shutdown.
type PriorityGrace struct {
	Priority                   int32 `json:"priority"`
	ShutdownGracePeriodSeconds int64 `json:"shutdownGracePeriodSeconds"`
}

// Logs bounds the containers' logs.
type Logs struct {
	// MaxSize of one log file, after which it is rotated: 10Mi.
	MaxSize string `json:"maxSize,omitempty"`
	// MaxFiles for each container, the one being written included.
	MaxFiles int `json:"maxFiles,omitempty"`
}

// Images says how images are pulled and when they are removed again. The fields are kubelet's.
type Images struct {
	// MaxParallelPulls bounds how many images are pulled at a time; 1 for one after the other.
	MaxParallelPulls int `json:"maxParallelPulls,omitempty"`
	// CredentialProviderConfig is a CredentialProviderConfig file, or a folder of them, for programs that give credentials for
	// registries; CredentialProviderBinDir is where those are. Both or neither.
	CredentialProviderConfig string `json:"credentialProviderConfig,omitempty"`
	CredentialProviderBinDir string `json:"credentialProviderBinDir,omitempty"`
	// GCHighThresholdPercent of the disk in use makes images that no pod needs go, the least recently used first, until it is
	// GCLowThresholdPercent; 100: never.
	GCHighThresholdPercent int `json:"gcHighThresholdPercent,omitempty"`
	GCLowThresholdPercent  int `json:"gcLowThresholdPercent,omitempty"`
	// MinimumGCAge is how long an image is kept after it was used last.
	MinimumGCAge string `json:"minimumGCAge,omitempty"`
	// MaximumGCAge is after how long without use an image goes even where the disk has room, such as 720h; "0", the default: never.
	MaximumGCAge string `json:"maximumGCAge,omitempty"`
	// GCPeriod is how often the disk is looked at.
	GCPeriod string `json:"gcPeriod,omitempty"`
}

// The values of Memory.Swap and Memory.Reservation.
const (
	NoSwap        = "NoSwap"
	LimitedSwap   = "LimitedSwap"
	ReserveNone   = "none"
	ReserveTiered = "tiered"
)

// Default is the configuration of a node that is the only one on its machine.
func Default() Config {
	return Config{
		StateDir: "/var/lib/coracle",
		RootDir:  "/var/lib/kubelet",
		RunDir:   "/run/coracle",
		LogDir:   "/var/log/pods",
		Containerd: Containerd{
			Socket:    "/run/containerd/containerd.sock",
			Namespace: "coracle",
			CertsDir:  "/etc/containerd/certs.d",
		},
		CNI: CNI{
			ConfDir:  "/etc/cni/net.d",
			BinDirs:  []string{"/opt/cni/bin", "/usr/lib/cni"},
			ConfFile: "90-coracle.conflist",
			Bridge:   "coracle0",
		},
		Runtime:      "auto",
		PodsPerShim:  10,
		MaxPods:      110,
		CgroupDriver: "auto",
		CgroupRoot:   "/",
		Memory:       Memory{Swap: NoSwap, Reservation: ReserveNone},
		ResolvConf:   defaultResolvConf,
		StaticPodDir: "/etc/coracle/manifests",

		MaxRestartBackOff: "5m",
		Logs:              Logs{MaxSize: "10Mi", MaxFiles: 5},
		Images: Images{
			MaxParallelPulls: 3, GCHighThresholdPercent: 85, GCLowThresholdPercent: 80,
			MinimumGCAge: "2m", MaximumGCAge: "0", GCPeriod: "5m",
		},
		EvictionHard: evict.DefaultHard(),

		EvictionPressureTransitionPeriod: "5m",
		ShutdownGracePeriod:              "0s",
		ShutdownGracePeriodCriticalPods:  "0s",

		Poll:        "0",
		MemoryLimit: "64Mi",
		LogLevel:    "info",
	}
}

// defaultResolvConf is the file that programs on the machine read. agent/volume looks past a
// stub resolver on loopback to the upstream servers behind it, because a pod cannot reach
// the machine's loopback.
const defaultResolvConf = "/etc/resolv.conf"

// StorePath is the file of agent/store.
func (c *Config) StorePath() string { return filepath.Join(c.StateDir, "store.db") }

// IdentityDir holds the node's key, certificate and the cluster's CA.
func (c *Config) IdentityDir() string { return filepath.Join(c.StateDir, "pki") }

// CNICacheDir holds CNI results, so that what was attached can be detached after a restart.
func (c *Config) CNICacheDir() string { return filepath.Join(c.StateDir, "cni") }

// StatusSocket is where `coracle-agent status` asks.
func (c *Config) StatusSocket() string { return filepath.Join(c.RunDir, "agent.sock") }

// LogSocket is the log writer's.
func (c *Config) LogSocket() string { return filepath.Join(c.RunDir, "log.sock") }

// CNIParallel bounds how many CNI chains run at once: they are processes that take CPU and
// contend for the same kernel locks, so more than a few only make each slower.
func (c *Config) CNIParallel() int { return max(2, min(8, runtime.NumCPU())) }
