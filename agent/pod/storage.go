package pod

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
)

// StorageUse is what a pod has written to the node's disk, in bytes.
type StorageUse struct {
	Containers map[string]int64 // writable layer and logs
	EmptyDirs  map[string]int64 // by volume; those in memory are not counted
}

// LimitsStorage says that somebody must measure what the pod writes.
func LimitsStorage(p *v1.Pod) bool {
	limited := func(c v1.Container) bool {
		_, ok := c.Resources.Limits[v1.ResourceEphemeralStorage]
		return ok
	}
	return slices.ContainsFunc(p.Spec.InitContainers, limited) || slices.ContainsFunc(p.Spec.Containers, limited) ||
		slices.ContainsFunc(p.Spec.Volumes, func(v v1.Volume) bool { return OnDisk(&v) && v.EmptyDir.SizeLimit != nil })
}

// OnDisk says that the volume is an emptyDir that counts as the pod's use of the disk.
func OnDisk(v *v1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumDefault
}

// evicted is the reason of pods that the node ended because something was short, or because they took too much of it.
const evicted = "Evicted"

// evictedNow is the grace of a pod that must stop writing.
var evictedNow = int64(1)

// OverStorage is why the pod is evicted for what it has written, in Kubernetes' words; nil where it keeps within its limits.
func OverStorage(p *v1.Pod, use StorageUse) *Failed {
	evict := func(format string, args ...any) *Failed {
		return &Failed{Reason: evicted, Message: fmt.Sprintf(format, args...), Disruption: v1.PodReasonTerminationByKubelet, GraceSeconds: &evictedNow}
	}
	total := int64(0)
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if !OnDisk(v) {
			continue
		}
		total += use.EmptyDirs[v.Name]
		if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Sign() > 0 && use.EmptyDirs[v.Name] > limit.Value() {
			return evict("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	for _, n := range use.Containers {
		total += n
	}
	_, limits := Resources(p)
	if limit, ok := limits[v1.ResourceEphemeralStorage]; ok && total > limit.Value() {
		return evict("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			if limit, ok := c.Resources.Limits[v1.ResourceEphemeralStorage]; ok && use.Containers[c.Name] > limit.Value() {
				return evict("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
			}
		}
	}
	return nil
}
