package stats

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"coracle/agent/cgroup"
	"coracle/agent/fact"
)

func (s *Stats) serveSummary(w http.ResponseWriter, r *http.Request) {
	only, err := strconv.ParseBool(r.URL.Query().Get("only_cpu_and_memory"))
	answerJSON(w, s.summary(r.Context(), err == nil && only))
}

// summary is /stats/summary. With brief nothing but CPU and memory is read.
func (s *Stats) summary(ctx context.Context, brief bool) statsapi.Summary {
	node := s.node(ctx, false)
	pods := s.collect(ctx, options{rates: true, network: !brief})
	if !node.rated {
		node = s.node(ctx, true)
	}
	out := statsapi.Summary{Node: s.nodeStats(&node), Pods: []statsapi.PodStats{}}
	if !brief {
		s.nodeExtras(&out.Node)
	}
	root, image := disk(s.c.RootDir), disk(s.imageDir())
	for i := range pods {
		p := s.podStats(&pods[i])
		if !brief {
			s.podExtras(ctx, &p, &pods[i], root, image)
		}
		out.Pods = append(out.Pods, p)
	}
	return out
}

func (s *Stats) nodeStats(g *group) statsapi.NodeStats {
	out := statsapi.NodeStats{
		NodeName: s.c.NodeName, StartTime: metav1.NewTime(s.bootTime()), CPU: cpuStats(g), Memory: memoryStats(g), IO: ioStats(g), Swap: swapStats(g),
	}
	m := s.c.Host.Memory()
	out.Memory.AvailableBytes = ptr(uint64(m.Total) - min(*out.Memory.WorkingSetBytes, uint64(m.Total)))
	me := s.self()
	now := metav1.Now()
	rate, ok := s.rates.observe("self", now.Time, s.c.Began, me.cpu)
	agent := statsapi.ContainerStats{
		Name: statsapi.SystemContainerKubelet, StartTime: metav1.NewTime(s.c.Began),
		CPU:    &statsapi.CPUStats{Time: now, UsageCoreNanoSeconds: ptr(uint64(me.cpu))},
		Memory: &statsapi.MemoryStats{Time: now, UsageBytes: ptr(me.resident), WorkingSetBytes: ptr(me.resident), RSSBytes: ptr(me.resident)},
	}
	if ok {
		agent.CPU.UsageNanoCores = ptr(rate.nanoCores)
	}
	out.SystemContainers = append(out.SystemContainers, agent)
	if all, ok := s.read(s.c.Cgroups.All(), time.Time{}, false); ok {
		out.SystemContainers = append(out.SystemContainers, statsapi.ContainerStats{
			Name: statsapi.SystemContainerPods, StartTime: metav1.NewTime(s.c.Began), CPU: cpuStats(&all), Memory: memoryStats(&all), IO: ioStats(&all), Swap: swapStats(&all),
		})
	}
	return out
}

func (s *Stats) nodeExtras(n *statsapi.NodeStats) {
	now := metav1.Now()
	n.Network = networkStats(now, s.links(1), s.defaultLink())
	n.Fs = fsStats(now, disk(s.c.RootDir))
	n.Runtime = &statsapi.RuntimeStats{ImageFs: fsStats(now, disk(s.imageDir())), ContainerFs: fsStats(now, disk(s.imageDir()))}
	pids := s.c.Host.Pids()
	n.Rlimit = &statsapi.RlimitStats{Time: now, MaxPID: &pids.Max, NumOfRunningProcesses: &pids.Used}
}

func (s *Stats) podStats(r *podReading) statsapi.PodStats {
	out := statsapi.PodStats{
		PodRef:    statsapi.PodReference{Name: r.pod.Name, Namespace: r.pod.Namespace, UID: string(r.pod.UID)},
		StartTime: metav1.NewTime(r.began), Containers: []statsapi.ContainerStats{},
	}
	if r.there {
		out.CPU, out.Memory, out.IO, out.Swap = cpuStats(&r.group), memoryStats(&r.group), ioStats(&r.group), swapStats(&r.group)
		out.ProcessStats = &statsapi.ProcessStats{ProcessCount: ptr(r.group.usage.Pids)}
	}
	for i := range r.containers {
		c := &r.containers[i]
		out.Containers = append(out.Containers, statsapi.ContainerStats{
			Name: c.name, StartTime: metav1.NewTime(c.began), CPU: cpuStats(&c.group), Memory: memoryStats(&c.group), IO: ioStats(&c.group), Swap: swapStats(&c.group),
		})
	}
	return out
}

// podExtras adds network and what is on disk: what containers wrote, their logs and the pod's volumes.
func (s *Stats) podExtras(ctx context.Context, out *statsapi.PodStats, r *podReading, root, image *fact.Disk) {
	now := metav1.Now()
	if r.network != nil {
		out.Network = networkStats(now, r.network, "eth0")
	}
	total := size{}
	logs := filepath.Join(s.c.LogDir, r.pod.Namespace+"_"+r.pod.Name+"_"+string(r.pod.UID))
	for i := range out.Containers {
		c, id := &out.Containers[i], r.containers[i].id
		written, ok := s.sizes.of("rootfs "+id, now.Time, func() (size, bool) {
			bytes, inodes, err := s.c.Runtime.RootfsUsage(ctx, id)
			return size{uint64(max(bytes, 0)), uint64(max(inodes, 0))}, err == nil
		})
		c.Rootfs = used(fsStats(now, image), written, ok)
		log, ok := files(filepath.Join(logs, c.Name))
		c.Logs = used(fsStats(now, root), log, ok)
		total = size{total.bytes + written.bytes + log.bytes, total.inodes + written.inodes + log.inodes}
	}
	for _, v := range s.volumes(r.pod, now) {
		out.VolumeStats = append(out.VolumeStats, v.VolumeStats)
		if v.local {
			total = size{total.bytes + *v.UsedBytes, total.inodes + *v.InodesUsed}
		}
	}
	out.EphemeralStorage = used(fsStats(now, root), total, true)
}

type volumeStats struct {
	statsapi.VolumeStats
	local bool // on the node's own disk
}

// volumes are the folders of a pod's volumes.
func (s *Stats) volumes(p *v1.Pod, now metav1.Time) []volumeStats {
	base := filepath.Join(s.c.RootDir, "pods", string(p.UID), "volumes")
	kinds, err := os.ReadDir(base)
	if err != nil {
		return nil
	}
	claims := map[string]string{} // by volume
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			claims[v.Name] = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			claims[v.Name] = p.Name + "-" + v.Name
		}
	}
	var out []volumeStats
	for _, kind := range kinds {
		entries, err := os.ReadDir(filepath.Join(base, kind.Name()))
		if err != nil {
			continue
		}
		for _, e := range entries {
			dir := filepath.Join(base, kind.Name(), e.Name())
			taken, ok := s.sizes.of(dir, now.Time, func() (size, bool) { return walk(dir) })
			stats := used(fsStats(now, disk(dir)), taken, ok)
			if stats == nil || !ok {
				continue
			}
			v := volumeStats{VolumeStats: statsapi.VolumeStats{FsStats: *stats, Name: e.Name()}, local: !onTmpfs(dir)}
			if claim := claims[e.Name()]; claim != "" {
				v.PVCRef, v.local = &statsapi.PVCReference{Name: claim, Namespace: p.Namespace}, false
			}
			out = append(out, v)
		}
	}
	return out
}

func cpuStats(g *group) *statsapi.CPUStats {
	out := &statsapi.CPUStats{Time: metav1.NewTime(g.at), UsageCoreNanoSeconds: ptr(uint64(g.usage.CPU)), PSI: psi(g.usage.CPUPressure)}
	if g.rated {
		out.UsageNanoCores = ptr(g.rate.nanoCores)
	}
	return out
}

func memoryStats(g *group) *statsapi.MemoryStats {
	u := &g.usage
	out := &statsapi.MemoryStats{
		Time: metav1.NewTime(g.at), UsageBytes: ptr(u.Memory), WorkingSetBytes: ptr(u.WorkingSet), RSSBytes: ptr(u.RSS),
		PageFaults: ptr(u.PageFaults), MajorPageFaults: ptr(u.MajorPageFaults), PSI: psi(u.MemoryPressure),
	}
	if u.Limit > 0 {
		out.AvailableBytes = ptr(u.Limit - min(u.WorkingSet, u.Limit))
	}
	return out
}

func ioStats(g *group) *statsapi.IOStats {
	p := psi(g.usage.IOPressure)
	if p == nil {
		return nil
	}
	return &statsapi.IOStats{Time: metav1.NewTime(g.at), PSI: p}
}

func swapStats(g *group) *statsapi.SwapStats {
	out := &statsapi.SwapStats{Time: metav1.NewTime(g.at), SwapUsageBytes: ptr(g.usage.Swap)}
	if g.usage.SwapLimit > 0 {
		out.SwapAvailableBytes = ptr(g.usage.SwapLimit - min(g.usage.Swap, g.usage.SwapLimit))
	}
	return out
}

// psi is nil where the kernel tells nothing of pressure.
func psi(p cgroup.Pressure) *statsapi.PSIStats {
	if p == (cgroup.Pressure{}) {
		return nil
	}
	data := func(s cgroup.Stall) statsapi.PSIData {
		return statsapi.PSIData{Total: uint64(s.Total.Microseconds()), Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300}
	}
	return &statsapi.PSIStats{Some: data(p.Some), Full: data(p.Full)}
}

// networkStats puts the interface with that name, or else the first, in front.
func networkStats(now metav1.Time, links []link, first string) *statsapi.NetworkStats {
	if len(links) == 0 {
		return nil
	}
	out := &statsapi.NetworkStats{Time: now}
	for i := range links {
		l := &links[i]
		one := statsapi.InterfaceStats{Name: l.name, RxBytes: &l.rxBytes, RxErrors: &l.rxErrors, TxBytes: &l.txBytes, TxErrors: &l.txErrors}
		if i == 0 || l.name == first {
			out.InterfaceStats = one
		}
		out.Interfaces = append(out.Interfaces, one)
	}
	return out
}

// fsStats is nil where the file system could not be asked.
func fsStats(now metav1.Time, d *fact.Disk) *statsapi.FsStats {
	if d == nil {
		return nil
	}
	return &statsapi.FsStats{
		Time: now, AvailableBytes: ptr(uint64(d.Available)), CapacityBytes: ptr(uint64(d.Total)), UsedBytes: ptr(uint64(d.Total - d.Available)),
		Inodes: ptr(uint64(d.Inodes)), InodesFree: ptr(uint64(d.InodesFree)), InodesUsed: ptr(uint64(d.Inodes - d.InodesFree)),
	}
}

// used says what a part of a file system takes. What could not be measured is left out.
func used(f *statsapi.FsStats, s size, ok bool) *statsapi.FsStats {
	if f == nil {
		return nil
	}
	f.UsedBytes, f.InodesUsed = nil, nil
	if ok {
		f.UsedBytes, f.InodesUsed = ptr(s.bytes), ptr(s.inodes)
	}
	return f
}

func ptr[T any](v T) *T { return &v }
