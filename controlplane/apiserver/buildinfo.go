package apiserver

import (
	"sync"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// registerBuildInfo shows in /metrics what /version says. Once: the registry is the process's.
var registerBuildInfo = sync.OnceFunc(func() {
	info := newEffectiveVersion().Info()
	gauge := metrics.NewGaugeVec(&metrics.GaugeOpts{
		Name:           "kubernetes_build_info",
		Help:           "A metric with a constant '1' value labeled by the versions and the platform that this was built for.",
		StabilityLevel: metrics.ALPHA,
	}, []string{"major", "minor", "git_version", "git_commit", "git_tree_state", "build_date", "go_version", "compiler", "platform"})
	legacyregistry.MustRegister(gauge)
	gauge.WithLabelValues(info.Major, info.Minor, info.GitVersion, info.GitCommit, info.GitTreeState, info.BuildDate,
		info.GoVersion, info.Compiler, info.Platform).Set(1)
})
