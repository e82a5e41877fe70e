package fact

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Facts is everything about the machine that the Node shows.
type Facts struct {
	CPUs       int
	Memory     Memory
	Disk       Disk // the file system of the pods' volumes
	Pids       Pids
	HugePages  map[int64]int64
	MachineID  string
	SystemUUID string
	BootID     string
	Kernel     string
	OSImage    string
	Arch       string // as Go names it
}

// Read reads all facts. dir is the folder whose file system is the node's ephemeral storage.
func (h Host) Read(dir, arch string) (Facts, error) {
	disk, err := ReadDisk(dir)
	if err != nil {
		return Facts{}, err
	}
	return Facts{
		CPUs: h.CPUs(), Memory: h.Memory(), Disk: disk, Pids: h.Pids(), HugePages: h.HugePages(),
		MachineID: h.MachineID(), SystemUUID: h.SystemUUID(), BootID: h.BootID(),
		Kernel: h.Kernel(), OSImage: h.OSImage(), Arch: arch,
	}, nil
}

// Capacity is what the machine has.
func Capacity(f Facts, maxPods int) v1.ResourceList {
	list := v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(f.CPUs), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(f.Memory.Total, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(f.Disk.Total, resource.BinarySI),
		v1.ResourcePods:             *resource.NewQuantity(int64(maxPods), resource.DecimalSI),
	}
	for size, bytes := range f.HugePages {
		list[v1.ResourceName(v1.ResourceHugePagesPrefix+short(size))] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	return list
}

// Allocatable is what pods may request: capacity less what is reserved (with what must stay free for the node not to be
// under pressure), less huge pages, which are memory too. Never below zero.
func Allocatable(capacity, reserved v1.ResourceList) v1.ResourceList {
	out := v1.ResourceList{}
	for name, q := range capacity {
		q = q.DeepCopy()
		if r, ok := reserved[name]; ok {
			q.Sub(r)
		}
		if name == v1.ResourceMemory {
			for other, pages := range capacity {
				if isHugePages(other) {
					q.Sub(pages)
				}
			}
		}
		if q.Sign() < 0 {
			q.Set(0)
		}
		out[name] = q
	}
	return out
}

func isHugePages(name v1.ResourceName) bool {
	return len(name) > len(v1.ResourceHugePagesPrefix) && name[:len(v1.ResourceHugePagesPrefix)] == v1.ResourceHugePagesPrefix
}

// short writes a page size as the API's resource names do: 2Mi, 1Gi.
func short(bytes int64) string {
	switch {
	case bytes%(1<<30) == 0:
		return fmt.Sprintf("%dGi", bytes>>30)
	case bytes%(1<<20) == 0:
		return fmt.Sprintf("%dMi", bytes>>20)
	default:
		return fmt.Sprintf("%dKi", bytes>>10)
	}
}
