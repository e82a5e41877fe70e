// Package stats answers what Kubernetes' monitoring asks a node: /metrics and its parts, /stats/summary, and the few
// other paths of a kubelet (/healthz, /pods, /configz, /logs). The requests come through nodes/proxy over the session;
// nothing listens.
//
// It owns the shape of the answers. The figures are read from the control groups (agent/cgroup), /proc, the file systems and
// the statuses last reported, when somebody asks and not before: at rest it costs nothing. The one thing kept between
// two requests is the last reading of each group's CPU counter, without which there is no rate.
//
//	GET /metrics/cadvisor ─▶ collect (pods × containers × groups) ─▶ families ─▶ text
//
// Invariants: a container whose group is gone is left out, never shown as 0; a figure that the kernel does not
// count is left out; names, labels and types are those that Kubernetes documents.
package stats

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cgroup"
	"coracle/agent/fact"
)

// Pods are those assigned to the node; agent/store.Store.
type Pods interface{ Pods() []*v1.Pod }

// Statuses are what was last said of pods; agent/status.Outbox.
type Statuses interface {
	Last(uid types.UID) (status v1.PodStatus, released, ok bool)
}

// Runtime knows what only containerd knows; agent/runtime.Runtime.
type Runtime interface {
	RootfsUsage(ctx context.Context, id string) (bytes, inodes int64, err error)
}

// Config is what New needs. Fields are required unless said otherwise.
type Config struct {
	NodeName string
	Pods     Pods
	Statuses Statuses
	Runtime  Runtime
	Cgroups  *cgroup.Cgroups
	Host     fact.Host
	// RootDir holds the pods' volumes, LogDir their logs, SystemLogs the machine's own (default /var/log).
	RootDir, LogDir, SystemLogs string
	// ImageDir is on the file system that images are on; default /var/lib/containerd where that is, else RootDir.
	ImageDir string
	// Began is when the agent was started.
	Began time.Time
	// Version is the agent's, KubernetesVersion that of the API it speaks.
	Version, KubernetesVersion string
	// Effective is the configuration in a kubelet's words, for /configz.
	Effective func() map[string]any
	// CertificateExpires is the end of the node's certificate.
	CertificateExpires func() time.Time
	// Starts is how long pods took to start. Nil: nothing to tell.
	Starts func() Histogram
	// Probes tells how probes have ended so far. Nil: nothing to tell.
	Probes func() []ProbeCount
	Log    *slog.Logger
}

// Histogram counts what took so many seconds, by upper bounds.
type Histogram struct {
	Bounds []float64
	Within []uint64 // for each of Bounds, those that took no longer
	Count  uint64
	Sum    float64
}

// ProbeCount is how often one probe of a container ended in one way.
type ProbeCount struct {
	UID            types.UID
	Namespace, Pod string
	Container      string
	Type, Result   string // Liveness, Readiness, Startup; successful, failed, unknown
	Count          uint64
}

// Stats answers requests. Safe for concurrent use.
type Stats struct {
	c     Config
	mux   *http.ServeMux
	rates rates
	sizes sizes
}

// New makes the handler. Nothing is read before the first request.
func New(c Config) *Stats {
	if c.SystemLogs == "" {
		c.SystemLogs = "/var/log"
	}
	s := &Stats{c: c, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /metrics", s.serveOwn)
	s.mux.HandleFunc("GET /metrics/cadvisor", s.serveCadvisor)
	s.mux.HandleFunc("GET /metrics/resource", s.serveResource)
	s.mux.HandleFunc("GET /metrics/probes", s.serveProbes)
	s.mux.HandleFunc("GET /stats/summary", s.serveSummary)
	s.mux.HandleFunc("GET /stats/usage", s.serveUsage)
	s.mux.HandleFunc("GET /healthz", servePing)
	s.mux.HandleFunc("GET /healthz/ping", servePing)
	s.mux.HandleFunc("GET /healthz/syncloop", servePing)
	s.mux.HandleFunc("GET /configz", s.serveConfig)
	s.mux.HandleFunc("GET /pods", s.servePods)
	s.mux.HandleFunc("GET /runningpods/", s.serveRunningPods)
	s.mux.HandleFunc("GET /logs/", s.serveLogs)
	s.mux.HandleFunc("GET /{$}", servePing)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Stats) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }
