package stats

import (
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func nowTime() metav1.Time { return metav1.Now() }

func servePing(w http.ResponseWriter, _ *http.Request) { plainText(w, http.StatusOK, "ok") }

func plainText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // an asker that is gone needs no answer
}

// serveConfig answers /configz: what is set, in the words of a kubelet's configuration.
func (s *Stats) serveConfig(w http.ResponseWriter, _ *http.Request) {
	config := map[string]any{"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"}
	if s.c.Effective != nil {
		for key, value := range s.c.Effective() {
			config[key] = value
		}
	}
	answerJSON(w, map[string]any{"kubeletconfig": config})
}

// servePods answers the pods assigned to the node, each with the status that was last reported.
func (s *Stats) servePods(w http.ResponseWriter, _ *http.Request) {
	s.answerPods(w, func(*v1.Pod) bool { return true })
}

// serveRunningPods answers those of which a container runs.
func (s *Stats) serveRunningPods(w http.ResponseWriter, _ *http.Request) {
	s.answerPods(w, func(p *v1.Pod) bool {
		runs := func(cs v1.ContainerStatus) bool { return cs.State.Running != nil }
		return slices.ContainsFunc(p.Status.ContainerStatuses, runs) || slices.ContainsFunc(p.Status.InitContainerStatuses, runs)
	})
}

func (s *Stats) answerPods(w http.ResponseWriter, wanted func(*v1.Pod) bool) {
	list := v1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []v1.Pod{}}
	for _, p := range s.c.Pods.Pods() {
		if status, _, ok := s.c.Statuses.Last(p.UID); ok {
			p.Status = status
		}
		if wanted(p) {
			list.Items = append(list.Items, *p)
		}
	}
	slices.SortFunc(list.Items, func(a, b v1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	answerJSON(w, list)
}

// serveLogs serves the files of the machine's log folder. A link that leads out of it is not followed.
func (s *Stats) serveLogs(w http.ResponseWriter, r *http.Request) {
	root, err := os.OpenRoot(s.c.SystemLogs)
	if err != nil {
		http.Error(w, "open the folder of logs: "+err.Error(), http.StatusNotFound)
		return
	}
	defer func() { _ = root.Close() }() // it was only read
	http.StripPrefix("/logs/", http.FileServerFS(root.FS())).ServeHTTP(w, cleaned(r))
}

// cleaned keeps the path inside: the file server wants it without dots.
func cleaned(r *http.Request) *http.Request {
	at := path.Clean(r.URL.Path)
	if strings.HasSuffix(r.URL.Path, "/") {
		at += "/"
	}
	out := r.Clone(r.Context())
	out.URL.Path, out.URL.RawPath = at, ""
	return out
}

// serveProbes answers /metrics/probes.
func (s *Stats) serveProbes(w http.ResponseWriter, _ *http.Request) {
	var counts []ProbeCount
	if s.c.Probes != nil {
		counts = s.c.Probes()
	}
	expose(w, func(e *exposition) {
		e.head("prober_probe_total", "counter", "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.")
		for _, c := range counts {
			e.sample("prober_probe_total", []string{
				"container", c.Container, "namespace", c.Namespace, "pod", c.Pod, "pod_uid", string(c.UID), "probe_type", c.Type, "result", c.Result,
			}, float64(c.Count), time.Time{})
		}
	})
}
