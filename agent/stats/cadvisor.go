package stats

import (
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"coracle/agent/cgroup"
	"coracle/agent/fact"
)

// row is one group as /metrics/cadvisor shows it.
type row struct {
	group
	labels []string // container, id, image, name, namespace, pod
	began  time.Time
	links  []link
}

// family is a metric of groups. each calls put with a value and further labels.
type family struct {
	name, kind, help string
	each             func(r *row, put func(value float64, labels ...string))
}

func plain(name, kind, help string, value func(r *row) float64) family {
	return family{name, kind, help, func(r *row, put func(float64, ...string)) { put(value(r)) }}
}

// positive leaves out what is 0 because the kernel does not count it, or because there is no limit.
func positive(name, kind, help string, value func(r *row) float64) family {
	return family{name, kind, help, func(r *row, put func(float64, ...string)) {
		if v := value(r); v > 0 {
			put(v)
		}
	}}
}

// quota is for groups alone that have a limit of CPU.
func quota(name, help string, value func(r *row) float64) family {
	return family{name, "counter", help, func(r *row, put func(float64, ...string)) {
		if r.usage.Quota > 0 {
			put(value(r))
		}
	}}
}

func device(name, help string, value func(d *cgroup.DeviceIO) uint64) family {
	return family{name, "counter", help, func(r *row, put func(float64, ...string)) {
		for i := range r.usage.Devices {
			d := &r.usage.Devices[i]
			put(float64(value(d)), "device", deviceName(d.Device))
		}
	}}
}

func network(name, help string, value func(l *link) uint64) family {
	return family{name, "counter", help, func(r *row, put func(float64, ...string)) {
		for i := range r.links {
			put(float64(value(&r.links[i])), "interface", r.links[i].name)
		}
	}}
}

func stall(name, help string, value func(r *row) time.Duration) family {
	return positive(name, "counter", help, func(r *row) float64 { return value(r).Seconds() })
}

// groupFamilies are in the order of their names.
var groupFamilies = []family{
	quota("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", func(r *row) float64 { return float64(r.usage.Periods) }),
	quota("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", func(r *row) float64 { return float64(r.usage.ThrottledPeriods) }),
	quota("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", func(r *row) float64 { return r.usage.Throttled.Seconds() }),
	plain("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", func(r *row) float64 { return r.usage.System.Seconds() }),
	{"container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", func(r *row, put func(float64, ...string)) {
		put(r.usage.CPU.Seconds(), "cpu", "total")
	}},
	plain("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", func(r *row) float64 { return r.usage.User.Seconds() }),
	device("container_fs_reads_bytes_total", "Cumulative count of bytes read.", func(d *cgroup.DeviceIO) uint64 { return d.ReadBytes }),
	device("container_fs_reads_total", "Cumulative count of reads completed.", func(d *cgroup.DeviceIO) uint64 { return d.ReadCount }),
	device("container_fs_writes_bytes_total", "Cumulative count of bytes written.", func(d *cgroup.DeviceIO) uint64 { return d.WrittenBytes }),
	device("container_fs_writes_total", "Cumulative count of writes completed.", func(d *cgroup.DeviceIO) uint64 { return d.WriteCount }),
	plain("container_last_seen", "gauge", "Last time a container was seen by the exporter.", func(r *row) float64 { return float64(r.at.Unix()) }),
	plain("container_memory_cache", "gauge", "Number of bytes of page cache memory.", func(r *row) float64 { return float64(r.usage.Cache) }),
	plain("container_memory_failcnt", "counter", "Number of memory usage hits limits.", func(r *row) float64 { return float64(r.usage.Failures) }),
	{"container_memory_failures_total", "counter", "Cumulative count of memory allocation failures.", func(r *row, put func(float64, ...string)) {
		put(float64(r.usage.PageFaults), "failure_type", "pgfault", "scope", "hierarchy")
		put(float64(r.usage.MajorPageFaults), "failure_type", "pgmajfault", "scope", "hierarchy")
	}},
	plain("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", func(r *row) float64 { return float64(r.usage.Mapped) }),
	positive("container_memory_max_usage_bytes", "gauge", "Maximum memory usage recorded in bytes.", func(r *row) float64 { return float64(r.usage.MaxMemory) }),
	plain("container_memory_rss", "gauge", "Size of RSS in bytes.", func(r *row) float64 { return float64(r.usage.RSS) }),
	plain("container_memory_swap", "gauge", "Container swap usage in bytes.", func(r *row) float64 { return float64(r.usage.Swap) }),
	plain("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, including all memory regardless of when it was accessed.", func(r *row) float64 { return float64(r.usage.Memory) }),
	plain("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", func(r *row) float64 { return float64(r.usage.WorkingSet) }),
	network("container_network_receive_bytes_total", "Cumulative count of bytes received.", func(l *link) uint64 { return l.rxBytes }),
	network("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving.", func(l *link) uint64 { return l.rxErrors }),
	network("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving.", func(l *link) uint64 { return l.rxDropped }),
	network("container_network_receive_packets_total", "Cumulative count of packets received.", func(l *link) uint64 { return l.rxPackets }),
	network("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", func(l *link) uint64 { return l.txBytes }),
	network("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting.", func(l *link) uint64 { return l.txErrors }),
	network("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting.", func(l *link) uint64 { return l.txDropped }),
	network("container_network_transmit_packets_total", "Cumulative count of packets transmitted.", func(l *link) uint64 { return l.txPackets }),
	plain("container_oom_events_total", "counter", "Count of out of memory events observed for the container.", func(r *row) float64 { return float64(r.usage.OOMKills) }),
	stall("container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.", func(r *row) time.Duration { return r.usage.CPUPressure.Full.Total }),
	stall("container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.", func(r *row) time.Duration { return r.usage.CPUPressure.Some.Total }),
	stall("container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.", func(r *row) time.Duration { return r.usage.IOPressure.Full.Total }),
	stall("container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.", func(r *row) time.Duration { return r.usage.IOPressure.Some.Total }),
	stall("container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.", func(r *row) time.Duration { return r.usage.MemoryPressure.Full.Total }),
	stall("container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.", func(r *row) time.Duration { return r.usage.MemoryPressure.Some.Total }),
	positive("container_spec_cpu_period", "gauge", "CPU period of the container.", func(r *row) float64 { return float64(r.usage.Period.Microseconds()) }),
	positive("container_spec_cpu_quota", "gauge", "CPU quota of the container.", func(r *row) float64 { return float64(r.usage.Quota.Microseconds()) }),
	positive("container_spec_cpu_shares", "gauge", "CPU share of the container.", func(r *row) float64 { return float64(r.usage.Shares) }),
	plain("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container.", func(r *row) float64 { return float64(r.usage.Limit) }),
	plain("container_spec_memory_swap_limit_bytes", "gauge", "Memory swap limit for the container.", func(r *row) float64 { return float64(r.usage.SwapLimit) }),
	{"container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds.", func(r *row, put func(float64, ...string)) {
		if !r.began.IsZero() {
			put(seconds(r.began))
		}
	}},
	positive("container_threads", "gauge", "Number of threads running inside the container.", func(r *row) float64 { return float64(r.usage.Pids) }),
	plain("container_threads_max", "gauge", "Maximum number of threads allowed inside the container.", func(r *row) float64 { return float64(r.usage.PidsLimit) }),
}

func (s *Stats) serveCadvisor(w http.ResponseWriter, r *http.Request) {
	pods := s.collect(r.Context(), options{network: true})
	rows := []row{{group: s.node(r.Context(), false), labels: groupLabels("/", "", "", "", "", ""), began: s.bootTime(), links: s.links(1)}}
	if g, ok := s.read(s.c.Cgroups.All(), time.Time{}, false); ok {
		rows = append(rows, row{group: g, labels: groupLabels(g.path, "", "", "", "", "")})
	}
	for i := range pods {
		rows = append(rows, podRows(&pods[i])...)
	}
	expose(w, func(e *exposition) {
		e.head("cadvisor_version_info", "gauge", "A metric with a constant '1' value labeled by kernel version, OS version, and the version of what reads the figures.")
		e.sample("cadvisor_version_info", []string{
			"cadvisorRevision", "", "cadvisorVersion", s.c.Version, "dockerVersion", "", "kernelVersion", s.c.Host.Kernel(), "osVersion", s.c.Host.OSImage()}, 1, time.Time{})
		for _, f := range groupFamilies {
			began := false
			for i := range rows {
				r := &rows[i]
				f.each(r, func(v float64, labels ...string) {
					if !began {
						e.head(f.name, f.kind, f.help)
						began = true
					}
					e.sample(f.name, append(labels, r.labels...), v, r.at)
				})
			}
		}
		s.machine(e)
	})
}

func podRows(p *podReading) []row {
	meta := &p.pod.ObjectMeta
	var out []row
	if p.there {
		out = append(out, row{group: p.group, labels: groupLabels(p.group.path, "", "", "", meta.Namespace, meta.Name), began: p.began, links: p.network})
	}
	for i := range p.containers {
		c := &p.containers[i]
		out = append(out, row{group: c.group, labels: groupLabels(c.path, c.name, c.image, c.id, meta.Namespace, meta.Name), began: c.began})
	}
	return out
}

func groupLabels(id, container, image, name, namespace, pod string) []string {
	return []string{"container", container, "id", id, "image", image, "name", name, "namespace", namespace, "pod", pod}
}

// machine is what the node has, in cAdvisor's words.
func (s *Stats) machine(e *exposition) {
	labels := []string{"boot_id", s.c.Host.BootID(), "machine_id", s.c.Host.MachineID(), "system_uuid", s.c.Host.SystemUUID()}
	memory := s.c.Host.Memory()
	put := func(name, help string, value float64) {
		e.head(name, "gauge", help)
		e.sample(name, labels, value, time.Time{})
	}
	put("machine_cpu_cores", "Number of logical CPU cores.", float64(s.c.Host.CPUs()))
	put("machine_memory_bytes", "Amount of memory installed on the machine.", float64(memory.Total))
	put("machine_swap_bytes", "Amount of swap memory available on the machine.", float64(memory.SwapTotal))
	s.disks(e)
	e.one("machine_scrape_error", "gauge", "1 if there was an error while getting machine metrics, 0 otherwise.", 0)
	e.one("container_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise.", 0)
}

// disks is the file system of pods and logs, under the root group as cAdvisor shows the machine's.
func (s *Stats) disks(e *exposition) {
	disk, err := fact.ReadDisk(s.c.RootDir)
	if err != nil {
		return
	}
	labels := append([]string{"device", s.c.RootDir}, groupLabels("/", "", "", "", "", "")...)
	put := func(name, help string, value int64) {
		e.head(name, "gauge", help)
		e.sample(name, labels, float64(value), time.Time{})
	}
	put("container_fs_inodes_free", "Number of available Inodes.", disk.InodesFree)
	put("container_fs_inodes_total", "Number of Inodes.", disk.Inodes)
	put("container_fs_limit_bytes", "Number of bytes that can be consumed by the container on this filesystem.", disk.Total)
	put("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", disk.Total-disk.Available)
}

// deviceName turns major:minor into the name in /dev where the kernel tells it.
func deviceName(number string) string {
	target, err := filepath.EvalSymlinks(filepath.Join("/sys/dev/block", number))
	if err != nil || !strings.Contains(number, ":") {
		return number
	}
	return "/dev/" + filepath.Base(target)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
