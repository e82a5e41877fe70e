package evict

import (
	"context"
	"path/filepath"
	"syscall"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/cgroup"
	"coracle/agent/fact"
	"coracle/agent/pod"
)

// Runtime knows what only containerd knows; agent/runtime.Runtime.
type Runtime interface {
	Observe(ctx context.Context, uid types.UID) (pod.Observed, error)
	RootfsUsage(ctx context.Context, id string) (bytes, inodes int64, err error)
}

// Machine is where levels and pods' use are read.
type Machine struct {
	Host    fact.Host
	Cgroups *cgroup.Cgroups
	Runtime Runtime
	// NodeDir holds volumes, LogDir the containers' logs.
	NodeDir, LogDir string
	// ImageDir is on the file system of images. Nil: that of NodeDir.
	ImageDir func(ctx context.Context) string
}

// levels reads all signals. What cannot be read is left out.
func (m *Machine) levels(ctx context.Context) Levels {
	l := Levels{}
	if memory := m.Host.Memory(); memory.Total > 0 {
		l[MemoryAvailable] = Level{memory.Total, memory.Available}
	}
	if pids := m.Host.Pids(); pids.Max > 0 {
		l[PIDAvailable] = Level{pids.Max, pids.Max - pids.Used}
	}
	disk := func(dir string, bytes, inodes Signal) {
		d, err := fact.ReadDisk(dir)
		if err != nil {
			return
		}
		l[bytes] = Level{d.Total, d.Available}
		if d.Inodes > 0 {
			l[inodes] = Level{d.Inodes, d.InodesFree}
		}
	}
	disk(m.NodeDir, NodefsAvailable, NodefsInodesFree)
	disk(m.imageDir(ctx), ImagefsAvailable, ImagefsInodesFree)
	return l
}

func (m *Machine) imageDir(ctx context.Context) string {
	if m.ImageDir == nil {
		return m.NodeDir
	}
	return m.ImageDir(ctx)
}

// oneDisk says that volumes, logs, images and what containers write share a file system.
func (m *Machine) oneDisk(ctx context.Context) bool {
	var a, b syscall.Stat_t
	return syscall.Stat(m.NodeDir, &a) == nil && syscall.Stat(m.imageDir(ctx), &b) == nil && a.Dev == b.Dev
}

// uses is how much each pod uses of what the signal is about. It is 0 where that cannot be told.
func (m *Machine) uses(ctx context.Context, s Signal, pods []*v1.Pod) []Use {
	out := make([]Use, 0, len(pods))
	one := s.Disk() && m.oneDisk(ctx)
	for _, p := range pods {
		if ctx.Err() != nil {
			break
		}
		u := Use{Pod: p}
		switch s.Condition() {
		case v1.NodeMemoryPressure:
			m.memory(ctx, &u)
		case v1.NodePIDPressure:
			group, _ := m.Cgroups.Pod(p).Read()
			u.Total, u.Frees = int64(group.Pids), int64(group.Pids)
		default:
			image := s == ImagefsAvailable || s == ImagefsInodesFree
			m.disk(ctx, &u, s.Resource() == resourceInodes, one || !image, one || image)
			u.Frees = u.Total
		}
		out = append(out, u)
	}
	return out
}

func (m *Machine) memory(ctx context.Context, u *Use) {
	at := m.Cgroups.Pod(u.Pod)
	group, ok := at.Read()
	if !ok {
		return
	}
	// File cache stays where it is when the pod goes, and is available while the pod is there.
	u.Total, u.Frees, u.Containers = int64(group.WorkingSet), int64(group.RSS+group.Shared), map[string]int64{}
	for name, id := range m.containers(ctx, u.Pod.UID, true) {
		if c, ok := at.Container(id).Read(); ok {
			u.Containers[name] = int64(c.WorkingSet)
		}
	}
}

// disk adds up logs and emptyDirs, where local, and what containers wrote, where layers.
func (m *Machine) disk(ctx context.Context, u *Use, inodes, local, layers bool) {
	u.Containers = map[string]int64{}
	of := func(bytes, files int64) int64 {
		if inodes {
			return files
		}
		return bytes
	}
	p := u.Pod
	logs := filepath.Join(m.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID))
	for name, id := range m.containers(ctx, p.UID, false) {
		if layers {
			if bytes, files, err := m.Runtime.RootfsUsage(ctx, id); err == nil {
				u.Containers[name] += of(bytes, files)
			}
		}
		if local {
			bytes, files, _ := fact.DirSize(filepath.Join(logs, name))
			u.Containers[name] += of(bytes, files)
		}
		u.Total += u.Containers[name]
	}
	for i := range p.Spec.Volumes {
		if v := &p.Spec.Volumes[i]; local && pod.OnDisk(v) {
			bytes, files, _ := fact.DirSize(filepath.Join(m.NodeDir, "pods", string(p.UID), "volumes", "kubernetes.io~empty-dir", v.Name))
			u.Total += of(bytes, files)
		}
	}
}

// containers are the ids of the newest attempts of a pod's containers by name, or of those alone that run.
func (m *Machine) containers(ctx context.Context, uid types.UID, running bool) map[string]string {
	out, newest := map[string]string{}, map[string]int{}
	o, err := m.Runtime.Observe(ctx, uid)
	if err != nil {
		return out
	}
	for i := range o.Containers {
		c := &o.Containers[i]
		if last, ok := newest[c.Name]; ok && last > c.Attempt || running && c.State != pod.Running {
			continue
		}
		newest[c.Name], out[c.Name] = c.Attempt, c.ID
	}
	return out
}
