package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Validate reports every mistake at once, each with the field's name in the file.
func (c *Config) Validate() error {
	var errs []error
	fail := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	c.validateNames(fail)
	c.validatePaths(fail)
	c.validateNetwork(fail)
	c.validateSysctls(fail)
	c.validateNumbers(fail)
	if _, err := c.Eviction(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.ShutdownGraces(); err != nil {
		errs = append(errs, err)
	}
	c.validateImages(fail)
	if _, err := c.ParsedTaints(); err != nil {
		errs = append(errs, err)
	}
	for k, v := range c.Labels {
		for _, m := range validation.IsQualifiedName(k) {
			fail("labels", "key %q: %s", k, m)
		}
		for _, m := range validation.IsValidLabelValue(v) {
			fail("labels", "value %q of %s: %s", v, k, m)
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateNames(fail func(string, string, ...any)) {
	if c.NodeName != "" {
		for _, m := range validation.IsDNS1123Subdomain(c.NodeName) {
			fail("nodeName", "%q: %s", c.NodeName, m)
		}
	}
	if !slices.Contains([]string{"auto", "crun", "runc"}, c.Runtime) {
		fail("runtime", "must be auto, crun or runc, not %q", c.Runtime)
	}
	if !slices.Contains([]string{"auto", "systemd", "cgroupfs"}, c.CgroupDriver) {
		fail("cgroupDriver", "must be auto, systemd or cgroupfs, not %q", c.CgroupDriver)
	}
	if _, err := c.Level(); err != nil {
		fail("logLevel", "must be debug, info, warn or error, not %q", c.LogLevel)
	}
	if c.Containerd.Namespace == "" || strings.ContainsAny(c.Containerd.Namespace, "/ ") {
		fail("containerd.namespace", "%q is not a name that containerd takes", c.Containerd.Namespace)
	}
}

func (c *Config) validatePaths(fail func(string, string, ...any)) {
	for field, p := range map[string]string{
		"stateDir": c.StateDir, "rootDir": c.RootDir, "runDir": c.RunDir, "logDir": c.LogDir,
		"containerd.socket": c.Containerd.Socket, "cni.confDir": c.CNI.ConfDir, "cgroupRoot": c.CgroupRoot,
		"resolvConf": c.ResolvConf,
	} {
		if !filepath.IsAbs(p) {
			fail(field, "must be an absolute path, not %q", p)
		}
	}
	if c.StaticPodDir != "" && !filepath.IsAbs(c.StaticPodDir) {
		fail("staticPodDir", "must be an absolute path or empty, not %q", c.StaticPodDir)
	}
	// The kernel's limit on a socket's path is 107 bytes; the longest of ours is added to runDir.
	if n := len(c.StatusSocket()); n > 107 {
		fail("runDir", "is too long for a unix socket inside it (%d of 107 bytes)", n)
	}
	if len(c.CNI.BinDirs) == 0 {
		fail("cni.binDirs", "must name at least one folder")
	}
	for _, d := range c.CNI.BinDirs {
		if !filepath.IsAbs(d) {
			fail("cni.binDirs", "must be absolute paths, not %q", d)
		}
	}
	if f := c.CNI.ConfFile; f != filepath.Base(f) || filepath.Ext(f) != ".conflist" {
		fail("cni.confFile", "must be a file name that ends in .conflist, not %q", f)
	}
}

// namespacedSysctls begin the names of those that belong to namespaces of a pod; no others can be allowed.
var namespacedSysctls = []string{"net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."}

func (c *Config) validateSysctls(fail func(string, string, ...any)) {
	for _, s := range c.AllowedUnsafeSysctls {
		name := strings.ReplaceAll(s, "/", ".")
		if !slices.ContainsFunc(namespacedSysctls, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			fail("allowedUnsafeSysctls", "%q belongs to the whole machine; pods can set those that begin with %s", s, strings.Join(namespacedSysctls, ", "))
		}
		if i := strings.Index(name, "*"); i >= 0 && i != len(name)-1 {
			fail("allowedUnsafeSysctls", "%q: a * may only stand at the end", s)
		}
	}
}

func (c *Config) validateNetwork(fail func(string, string, ...any)) {
	if c.Server != "" {
		if host, port, err := net.SplitHostPort(c.Server); err != nil || host == "" || port == "" {
			fail("server", "must be HOST:PORT, not %q", c.Server)
		}
	}
	for _, a := range c.ClusterDNS {
		if _, err := netip.ParseAddr(a); err != nil {
			fail("clusterDNS", "%q is not an IP address", a)
		}
	}
	if c.ClusterDomain != "" {
		for _, m := range validation.IsDNS1123Subdomain(c.ClusterDomain) {
			fail("clusterDomain", "%q: %s", c.ClusterDomain, m)
		}
	}
	for _, p := range c.PodCIDRs() {
		if _, err := netip.ParsePrefix(p); err != nil {
			fail("podCIDR", "%q is not a CIDR such as 10.244.0.0/24", p)
		}
	}
	if b := c.CNI.Bridge; b == "" || len(b) > 15 || strings.ContainsAny(b, "/ :") {
		fail("cni.bridge", "%q is not a name for a link (1 to 15 characters, no slash, colon or space)", b)
	}
	if c.CNI.MTU != 0 && (c.CNI.MTU < 576 || c.CNI.MTU > 65535) {
		fail("cni.mtu", "must be 0 or between 576 and 65535, not %d", c.CNI.MTU)
	}
}

func (c *Config) validateNumbers(fail func(string, string, ...any)) {
	if c.PodsPerShim < 1 || c.PodsPerShim > 1000 {
		fail("podsPerShim", "must be between 1 and 1000, not %d", c.PodsPerShim)
	}
	if c.MaxPods < 1 || c.MaxPods > 10000 {
		fail("maxPods", "must be between 1 and 10000, not %d", c.MaxPods)
	}
	if c.Logs.MaxFiles < 2 {
		fail("logs.maxFiles", "must be at least 2 (one being written, one rotated), not %d", c.Logs.MaxFiles)
	}
	if n, err := c.LogMaxBytes(); err != nil || n < 4096 {
		fail("logs.maxSize", "must be a size of at least 4Ki such as 10Mi, not %q", c.Logs.MaxSize)
	}
	if _, err := c.MemoryLimitBytes(); err != nil {
		fail("memoryLimit", "must be a size such as 48Mi, or 0, not %q", c.MemoryLimit)
	}
	if d, err := c.PollInterval(); err != nil || d < 0 || (d > 0 && d < 10*time.Second) {
		fail("poll", "must be 0 or a duration of at least 10s such as 5m, not %q", c.Poll)
	}
	if d, err := c.RestartBackOff(); err != nil || d < time.Second || d > 5*time.Minute {
		fail("maxRestartBackOff", "must be a duration between 1s and 5m, not %q", c.MaxRestartBackOff)
	}
	if c.PodPidsLimit < 0 {
		fail("podPidsLimit", "must be 0 for none or the number of processes a pod may have, not %d", c.PodPidsLimit)
	}
	if !slices.Contains([]string{NoSwap, LimitedSwap}, c.Memory.Swap) {
		fail("memory.swap", "must be %s or %s, not %q", NoSwap, LimitedSwap, c.Memory.Swap)
	}
	if !slices.Contains([]string{ReserveNone, ReserveTiered}, c.Memory.Reservation) {
		fail("memory.reservation", "must be %s or %s, not %q", ReserveNone, ReserveTiered, c.Memory.Reservation)
	}
	if t := c.Memory.Throttling; t < 0 || t > 1 {
		fail("memory.throttling", "must be 0 or a share between 0 and 1 such as 0.9, not %v", t)
	}
	for name, value := range c.RuntimeHandlers {
		for _, m := range validation.IsDNS1123Label(name) {
			fail("runtimeHandlers", "%q: %s", name, m)
		}
		shim, file, _ := strings.Cut(value, ":")
		if !filepath.IsAbs(value) && (strings.Count(shim, ".") < 2 || strings.Contains(shim, "/") || file != "" && !filepath.IsAbs(file)) {
			fail("runtimeHandlers", "%s: must be the absolute path of an OCI runtime, or a shim such as io.containerd.runsc.v1, with :/PATH where it takes a configuration, not %q", name, value)
		}
	}
	if _, err := c.ReservedResources(); err != nil {
		fail("reserved", "%s", err.Error())
	}
}

// PodCIDRs splits PodCIDR; empty when the Node object decides.
func (c *Config) PodCIDRs() []string {
	if c.PodCIDR == "" {
		return nil
	}
	parts := strings.Split(c.PodCIDR, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// Level is LogLevel as slog takes it.
func (c *Config) Level() (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(c.LogLevel))
	return l, err
}

// PollInterval is Poll as a duration.
func (c *Config) PollInterval() (time.Duration, error) {
	if c.Poll == "" {
		return 0, nil
	}
	return time.ParseDuration(c.Poll)
}

// RestartBackOff is MaxRestartBackOff as a duration.
func (c *Config) RestartBackOff() (time.Duration, error) {
	if c.MaxRestartBackOff == "" {
		return 5 * time.Minute, nil
	}
	return time.ParseDuration(c.MaxRestartBackOff)
}

// LogMaxBytes is Logs.MaxSize in bytes.
func (c *Config) LogMaxBytes() (int64, error) { return size(c.Logs.MaxSize) }

// MemoryLimitBytes is MemoryLimit in bytes; 0 means no limit.
func (c *Config) MemoryLimitBytes() (int64, error) { return size(c.MemoryLimit) }

func size(s string) (int64, error) {
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w", s, err)
	}
	if q.Sign() < 0 {
		return 0, fmt.Errorf("size %q is negative", s)
	}
	return q.Value(), nil
}

// ReservedResources is Reserved as quantities. "pid" counts processes.
func (c *Config) ReservedResources() (v1.ResourceList, error) {
	list := v1.ResourceList{}
	for k, s := range c.Reserved {
		switch v1.ResourceName(k) {
		case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage, "pid":
		default:
			return nil, fmt.Errorf("%q is not one of cpu, memory, ephemeral-storage, pid", k)
		}
		q, err := resource.ParseQuantity(s)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", k, s, err)
		}
		if q.Sign() < 0 {
			return nil, fmt.Errorf("%s %q is negative", k, s)
		}
		list[v1.ResourceName(k)] = q
	}
	return list, nil
}

// ParsedTaints is Taints as API values.
func (c *Config) ParsedTaints() ([]v1.Taint, error) {
	taints := make([]v1.Taint, 0, len(c.Taints))
	for _, s := range c.Taints {
		rest, effect, ok := strings.Cut(s, ":")
		if !ok {
			return nil, fmt.Errorf("taints: %q must read key=value:Effect or key:Effect", s)
		}
		switch v1.TaintEffect(effect) {
		case v1.TaintEffectNoSchedule, v1.TaintEffectPreferNoSchedule, v1.TaintEffectNoExecute:
		default:
			return nil, fmt.Errorf("taints: %q: effect must be NoSchedule, PreferNoSchedule or NoExecute", s)
		}
		key, value, _ := strings.Cut(rest, "=")
		if m := validation.IsQualifiedName(key); len(m) > 0 {
			return nil, fmt.Errorf("taints: %q: key %q: %s", s, key, m[0])
		}
		if m := validation.IsValidLabelValue(value); len(m) > 0 {
			return nil, fmt.Errorf("taints: %q: value %q: %s", s, value, m[0])
		}
		taints = append(taints, v1.Taint{Key: key, Value: value, Effect: v1.TaintEffect(effect)})
	}
	return taints, nil
}
