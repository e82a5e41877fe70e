package stats

import (
	"encoding/json"
	"net/http"
	"time"

	"coracle/internal/usage"
)

// resourceFamily is a metric of /metrics/resource: of each container, or of each pod.
type resourceFamily struct {
	name, kind, help string
	pod              bool
	value            func(g *group, began time.Time) (float64, bool)
	timeless         bool // without the time of the reading, as what it tells does not change
}

var resourceFamilies = []resourceFamily{
	{name: "container_cpu_usage_seconds_total", kind: "counter", help: "[STABLE] Cumulative cpu time consumed by the container in core-seconds", value: cpuSeconds},
	{name: "container_memory_working_set_bytes", kind: "gauge", help: "[STABLE] Current working set of the container in bytes", value: workingSet},
	{name: "container_start_time_seconds", kind: "gauge", help: "[STABLE] Start time of the container since unix epoch in seconds", value: startTime, timeless: true},
	{name: "container_swap_limit_bytes", kind: "gauge", help: "[ALPHA] Current amount of the container swap limit in bytes. Reported only on non-windows systems", value: swapLimit},
	{name: "container_swap_usage_bytes", kind: "gauge", help: "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems", value: swapUsed},
	{name: "pod_cpu_usage_seconds_total", kind: "counter", help: "[STABLE] Cumulative cpu time consumed by the pod in core-seconds", pod: true, value: cpuSeconds},
	{name: "pod_memory_working_set_bytes", kind: "gauge", help: "[STABLE] Current working set of the pod in bytes", pod: true, value: workingSet},
	{name: "pod_swap_usage_bytes", kind: "gauge", help: "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems", pod: true, value: swapUsed},
}

func cpuSeconds(g *group, _ time.Time) (float64, bool) { return g.usage.CPU.Seconds(), true }
func workingSet(g *group, _ time.Time) (float64, bool) { return float64(g.usage.WorkingSet), true }
func swapUsed(g *group, _ time.Time) (float64, bool)   { return float64(g.usage.Swap), true }
func swapLimit(g *group, _ time.Time) (float64, bool) {
	return float64(g.usage.SwapLimit), g.usage.SwapLimit > 0
}

func startTime(_ *group, began time.Time) (float64, bool) { return seconds(began), !began.IsZero() }

func (s *Stats) serveResource(w http.ResponseWriter, r *http.Request) {
	pods := s.collect(r.Context(), options{})
	node := s.node(r.Context(), false)
	expose(w, func(e *exposition) {
		for _, f := range resourceFamilies {
			e.head(f.name, f.kind, f.help)
			for i := range pods {
				p := &pods[i]
				labels := []string{"namespace", p.pod.Namespace, "pod", p.pod.Name}
				put := func(g *group, began time.Time, labels []string) {
					if v, ok := f.value(g, began); ok {
						at := g.at
						if f.timeless {
							at = time.Time{}
						}
						e.sample(f.name, labels, v, at)
					}
				}
				if f.pod && p.there {
					put(&p.group, p.began, labels)
				}
				for j := range p.containers {
					if !f.pod {
						put(&p.containers[j].group, p.containers[j].began, append([]string{"container", p.containers[j].name}, labels...))
					}
				}
			}
		}
		e.head("node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds")
		e.sample("node_cpu_usage_seconds_total", nil, node.usage.CPU.Seconds(), node.at)
		e.head("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes")
		e.sample("node_memory_working_set_bytes", nil, float64(node.usage.WorkingSet), node.at)
		if swap := s.c.Host.Memory().SwapTotal; swap > 0 {
			e.head("node_swap_usage_bytes", "gauge", "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems")
			e.sample("node_swap_usage_bytes", nil, float64(uint64(swap)-min(s.meminfo()["SwapFree"], uint64(swap))), node.at)
		}
		// What cannot be read is left out of what is above: a group is gone because its container is.
		e.one("resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise", 0)
		e.one("scrape_error", "gauge", "[ALPHA] 1 if there was an error while getting container metrics, 0 otherwise", 0)
	})
}

// serveUsage answers what metrics.k8s.io is made of.
func (s *Stats) serveUsage(w http.ResponseWriter, r *http.Request) {
	node := s.node(r.Context(), false)
	pods := s.collect(r.Context(), options{rates: true})
	if !node.rated {
		node = s.node(r.Context(), true)
	}
	out := usage.Node{Sample: sample(&node)}
	for i := range pods {
		p := usage.Pod{Namespace: pods[i].pod.Namespace, Name: pods[i].pod.Name}
		for j := range pods[i].containers {
			c := &pods[i].containers[j]
			if c.rated {
				p.Containers = append(p.Containers, usage.Container{Name: c.name, Sample: sample(&c.group)})
			}
		}
		if len(p.Containers) > 0 {
			out.Pods = append(out.Pods, p)
		}
	}
	answerJSON(w, out)
}

func sample(g *group) usage.Sample {
	return usage.Sample{Time: g.at, Window: g.rate.window, NanoCores: g.rate.nanoCores, WorkingSet: g.usage.WorkingSet}
}

func answerJSON(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encode the answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data) // an asker that is gone needs no answer
}
