package node

import (
	"net/http"

	"coracle/agent/pod"
	"coracle/agent/probe"
	"coracle/agent/stats"
	"coracle/internal/version"
)

// monitor makes what answers requests to the node itself: metrics, figures and the other paths of a kubelet.
func (n *Node) monitor() http.Handler {
	return stats.New(stats.Config{
		NodeName: n.name, Pods: n.store, Statuses: n.outbox, Runtime: n.runtime, Cgroups: n.cgroups, Host: n.host,
		RootDir: n.cfg.RootDir, LogDir: n.cfg.LogDir, Began: n.began,
		Version: version.Version, KubernetesVersion: version.Kubernetes,
		Effective: n.kubeletConfig, CertificateExpires: n.identity.NotAfter, Probes: n.probeCounts, Starts: n.startTimes, Log: n.log,
	})
}

// probeCounts are the probes' outcomes in a kubelet's words.
func (n *Node) probeCounts() []stats.ProbeCount {
	kinds := map[pod.ProbeKind]string{pod.Liveness: "Liveness", pod.Readiness: "Readiness", pod.Startup: "Startup"}
	results := map[probe.Outcome]string{probe.Passed: "successful", probe.Warned: "successful", probe.Failed: "failed", probe.Errored: "unknown"}
	var out []stats.ProbeCount
	for _, t := range n.runner.ProbeTallies() {
		p, ok := n.store.Pod(t.UID)
		if !ok {
			continue
		}
		// Both ways to pass are one to Kubernetes.
		sum := map[string]uint64{}
		for outcome, times := range t.Ended {
			sum[results[probe.Outcome(outcome)]] += uint64(times)
		}
		for _, result := range []string{"successful", "failed", "unknown"} {
			if sum[result] > 0 {
				out = append(out, stats.ProbeCount{
					UID: t.UID, Namespace: p.Namespace, Pod: p.Name, Container: t.Container, Type: kinds[t.Kind], Result: result, Count: sum[result],
				})
			}
		}
	}
	return out
}

func (n *Node) startTimes() stats.Histogram {
	t := n.runner.StartTimes()
	return stats.Histogram{Bounds: t.Bounds(), Within: t.Within[:], Count: t.Count, Sum: t.Sum.Seconds()}
}

// kubeletConfig is the configuration in the words of a kubelet's, as far as the two have the same things to set.
func (n *Node) kubeletConfig() map[string]any {
	driver := "cgroupfs"
	if n.cgroups.Systemd() {
		driver = "systemd"
	}
	return map[string]any{
		"cgroupDriver":             driver,
		"cgroupRoot":               n.cfg.CgroupRoot,
		"clusterDNS":               n.clusterDNS(),
		"clusterDomain":            n.clusterDomain(),
		"containerLogMaxFiles":     n.cfg.Logs.MaxFiles,
		"containerLogMaxSize":      n.cfg.Logs.MaxSize,
		"containerRuntimeEndpoint": "unix://" + n.cfg.Containerd.Socket,
		"enableSystemLogHandler":   true,
		"evictionHard":             n.cfg.EvictionHard,
		"evictionMinimumReclaim":   n.cfg.EvictionMinimumReclaim,
		"evictionSoft":             n.cfg.EvictionSoft,
		"evictionSoftGracePeriod":  n.cfg.EvictionSoftGracePeriod,
		"failSwapOn":               false,
		"kubeReserved":             n.cfg.Reserved,
		"maxPods":                  n.cfg.MaxPods,
		"podCIDR":                  n.cfg.PodCIDR,
		"podLogsDir":               n.cfg.LogDir,
		"port":                     0, // nothing listens
		"registerNode":             true,
		"resolvConf":               n.cfg.ResolvConf,
		"rotateCertificates":       true,
		"shutdownGracePeriod":      n.cfg.ShutdownGracePeriod,

		"evictionMaxPodGracePeriod":        n.cfg.EvictionMaxPodGracePeriod,
		"evictionPressureTransitionPeriod": n.cfg.EvictionPressureTransitionPeriod,
		"shutdownGracePeriodCriticalPods":  n.cfg.ShutdownGracePeriodCriticalPods,
		"shutdownGracePeriodByPodPriority": n.cfg.ShutdownGracePeriodByPodPriority,
	}
}
