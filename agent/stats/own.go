package stats

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	v1 "k8s.io/api/core/v1"
)

// serveOwn answers /metrics: the agent about itself and its work, under a kubelet's names where dashboards look for them.
func (s *Stats) serveOwn(w http.ResponseWriter, _ *http.Request) {
	expose(w, func(e *exposition) {
		s.work(e)
		s.claims(e)
		goMetrics(e)
		s.process(e)
	})
}

// work is what the node does.
func (s *Stats) work(e *exposition) {
	e.head("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.")
	e.sample("kubelet_node_name", []string{"node", s.c.NodeName}, 1, time.Time{})
	e.head("kubernetes_build_info", "gauge", "[ALPHA] A metric with a constant '1' value labeled by the versions of the agent, of the API it speaks and of Go.")
	e.sample("kubernetes_build_info", []string{
		"git_version", s.c.KubernetesVersion, "agent_version", s.c.Version, "go_version", runtime.Version(), "compiler", runtime.Compiler,
		"platform", runtime.GOOS + "/" + runtime.GOARCH}, 1, time.Time{})
	states := map[string]int{"running": 0, "created": 0, "exited": 0}
	running, assigned, active, restarts := 0, 0, 0, int64(0)
	for _, p := range s.c.Pods.Pods() {
		assigned++
		status, released, ok := s.c.Statuses.Last(p.UID)
		if !ok || released {
			continue
		}
		if status.Phase != v1.PodSucceeded && status.Phase != v1.PodFailed {
			active++
		}
		runs := false
		for _, list := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
			for i := range list {
				restarts += int64(list[i].RestartCount)
				switch state := &list[i].State; {
				case state.Running != nil:
					states["running"]++
					runs = true
				case state.Terminated != nil:
					states["exited"]++
				case list[i].ContainerID != "":
					states["created"]++
				}
			}
		}
		if runs {
			running++
		}
	}
	e.one("kubelet_running_pods", "gauge", "[BETA] Number of pods that have a running container", float64(running))
	e.head("kubelet_running_containers", "gauge", "[BETA] Number of containers by their state")
	for _, state := range []string{"created", "exited", "running"} {
		e.sample("kubelet_running_containers", []string{"container_state", state}, float64(states[state]), time.Time{})
	}
	e.one("kubelet_desired_pods", "gauge", "[ALPHA] The number of pods assigned to the node.", float64(assigned))
	e.one("kubelet_active_pods", "gauge", "[ALPHA] The number of pods the node considers active.", float64(active))
	e.one("kubelet_restarted_containers", "gauge", "[ALPHA] The restarts of the containers of the pods that are here now.", float64(restarts))
	if s.c.Starts != nil {
		e.histogram("kubelet_pod_start_duration_seconds", "[ALPHA] Duration in seconds from the node's first sight of a pod to the pod starting to run", s.c.Starts())
	}
	if s.c.CertificateExpires != nil {
		if end := s.c.CertificateExpires(); !end.IsZero() {
			e.one("kubelet_certificate_manager_client_ttl_seconds", "gauge", "[ALPHA] The time until the node's certificate expires in seconds. Negative where it has expired.", time.Until(end).Seconds())
		}
	}
}

// claims is what is in the volumes of persistent volume claims.
func (s *Stats) claims(e *exposition) {
	type claim struct {
		labels []string
		v      volumeStats
	}
	var all []claim
	for _, p := range s.c.Pods.Pods() {
		if !hasClaims(p) {
			continue
		}
		for _, v := range s.volumes(p, nowTime()) {
			if v.PVCRef != nil {
				all = append(all, claim{[]string{"namespace", v.PVCRef.Namespace, "persistentvolumeclaim", v.PVCRef.Name}, v})
			}
		}
	}
	if len(all) == 0 {
		return
	}
	for _, f := range []struct {
		name, help string
		value      func(v *volumeStats) *uint64
	}{
		{"kubelet_volume_stats_available_bytes", "[ALPHA] Number of available bytes in the volume", func(v *volumeStats) *uint64 { return v.AvailableBytes }},
		{"kubelet_volume_stats_capacity_bytes", "[ALPHA] Capacity in bytes of the volume", func(v *volumeStats) *uint64 { return v.CapacityBytes }},
		{"kubelet_volume_stats_inodes", "[ALPHA] Maximum number of inodes in the volume", func(v *volumeStats) *uint64 { return v.Inodes }},
		{"kubelet_volume_stats_inodes_free", "[ALPHA] Number of free inodes in the volume", func(v *volumeStats) *uint64 { return v.InodesFree }},
		{"kubelet_volume_stats_inodes_used", "[ALPHA] Number of used inodes in the volume", func(v *volumeStats) *uint64 { return v.InodesUsed }},
		{"kubelet_volume_stats_used_bytes", "[ALPHA] Number of used bytes in the volume", func(v *volumeStats) *uint64 { return v.UsedBytes }},
	} {
		e.head(f.name, "gauge", f.help)
		for i := range all {
			if value := f.value(&all[i].v); value != nil {
				e.sample(f.name, all[i].labels, float64(*value), time.Time{})
			}
		}
	}
}

func hasClaims(p *v1.Pod) bool {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].PersistentVolumeClaim != nil || p.Spec.Volumes[i].Ephemeral != nil {
			return true
		}
	}
	return false
}

func goMetrics(e *exposition) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var gc debug.GCStats
	debug.ReadGCStats(&gc)
	e.one("go_goroutines", "gauge", "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	e.head("go_info", "gauge", "Information about the Go environment.")
	e.sample("go_info", []string{"version", runtime.Version()}, 1, time.Time{})
	for _, f := range []struct {
		name, kind, help string
		value            float64
	}{
		{"go_memstats_alloc_bytes", "gauge", "Number of bytes allocated in heap and currently in use.", float64(m.Alloc)},
		{"go_memstats_alloc_bytes_total", "counter", "Total number of bytes allocated in heap until now, even if released already.", float64(m.TotalAlloc)},
		{"go_memstats_frees_total", "counter", "Total number of heap objects frees.", float64(m.Frees)},
		{"go_memstats_gc_sys_bytes", "gauge", "Number of bytes used for garbage collection system metadata.", float64(m.GCSys)},
		{"go_memstats_heap_alloc_bytes", "gauge", "Number of heap bytes allocated and currently in use.", float64(m.HeapAlloc)},
		{"go_memstats_heap_idle_bytes", "gauge", "Number of heap bytes waiting to be used.", float64(m.HeapIdle)},
		{"go_memstats_heap_inuse_bytes", "gauge", "Number of heap bytes that are in use.", float64(m.HeapInuse)},
		{"go_memstats_heap_objects", "gauge", "Number of currently allocated objects.", float64(m.HeapObjects)},
		{"go_memstats_heap_released_bytes", "gauge", "Number of heap bytes released to OS.", float64(m.HeapReleased)},
		{"go_memstats_heap_sys_bytes", "gauge", "Number of heap bytes obtained from system.", float64(m.HeapSys)},
		{"go_memstats_last_gc_time_seconds", "gauge", "Number of seconds since 1970 of last garbage collection.", float64(m.LastGC) / 1e9},
		{"go_memstats_mallocs_total", "counter", "Total number of heap objects allocated, both live and gc-ed.", float64(m.Mallocs)},
		{"go_memstats_next_gc_bytes", "gauge", "Number of heap bytes when next garbage collection will take place.", float64(m.NextGC)},
		{"go_memstats_stack_inuse_bytes", "gauge", "Number of bytes obtained from system for stack allocator in non-CGO environments.", float64(m.StackInuse)},
		{"go_memstats_sys_bytes", "gauge", "Number of bytes obtained from system.", float64(m.Sys)},
		{"go_gc_cycles_total", "counter", "Number of completed garbage collections.", float64(gc.NumGC)},
		{"go_gc_pause_seconds_total", "counter", "Time that garbage collection has stopped the program.", gc.PauseTotal.Seconds()},
		{"go_sched_gomaxprocs_threads", "gauge", "The number of operating system threads that can execute Go code at once.", float64(runtime.GOMAXPROCS(0))},
	} {
		e.one(f.name, f.kind, f.help, f.value)
	}
}

func (s *Stats) process(e *exposition) {
	me := s.self()
	e.one("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", me.cpu.Seconds())
	if me.filesLimit > 0 {
		e.one("process_max_fds", "gauge", "Maximum number of open file descriptors.", float64(me.filesLimit))
	}
	e.one("process_open_fds", "gauge", "Number of open file descriptors.", float64(me.files))
	e.one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", float64(me.resident))
	began := me.began
	if began.IsZero() {
		began = s.c.Began
	}
	e.one("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", seconds(began))
	e.one("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", float64(me.virtual))
	e.one("go_threads", "gauge", "Number of OS threads created.", float64(me.threads))
}
