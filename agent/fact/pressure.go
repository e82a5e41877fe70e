package fact

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
)

// The floors under which a node is under pressure, Kubernetes' defaults.
const (
	memoryFloor     = 100 << 20 // bytes that can be had without swapping
	diskFloorShare  = 10        // one tenth of the file system's bytes
	inodeFloorShare = 20        // one twentieth of its inodes
	pidFloorShare   = 20        // one twentieth of the kernel's process ids
	// pressureHold keeps a pressure after it was last seen, so that a node at the edge does
	// not draw pods and push them away by turns.
	pressureHold = 5 * time.Minute
)

// Pressure remembers when each shortage was last seen. The zero value is ready; not safe for concurrent use.
type Pressure struct {
	memory, disk, pid seen
}

type seen struct {
	at  time.Time
	why string
}

// Condition is a node condition without its times.
type Condition struct {
	Type    v1.NodeConditionType
	Status  v1.ConditionStatus
	Reason  string
	Message string
}

// Observe takes the facts of this moment and gives the three pressure conditions. The messages
// name what is short and carry no figure that moves, because a changed message is a write.
func (p *Pressure) Observe(now time.Time, f Facts) []Condition {
	if f.Memory.Total > 0 && f.Memory.Available < memoryFloor {
		p.memory = seen{now, "less than 100 MiB of memory can be had without swapping"}
	}
	switch d := f.Disk; {
	case d.Total > 0 && d.Available < d.Total/diskFloorShare:
		p.disk = seen{now, "less than a tenth of the file system of the pods' volumes is free"}
	case d.Inodes > 0 && d.InodesFree < d.Inodes/inodeFloorShare:
		p.disk = seen{now, "less than a twentieth of the inodes of the pods' volumes is free"}
	}
	if f.Pids.Max > 0 && f.Pids.Max-f.Pids.Used < f.Pids.Max/pidFloorShare {
		p.pid = seen{now, "less than a twentieth of the kernel's process ids is free"}
	}
	return []Condition{
		p.memory.condition(now, v1.NodeMemoryPressure, "Memory", "memory"),
		p.disk.condition(now, v1.NodeDiskPressure, "Disk", "disk space"),
		p.pid.condition(now, v1.NodePIDPressure, "PID", "process ids"),
	}
}

func (s seen) condition(now time.Time, t v1.NodeConditionType, what, words string) Condition {
	if s.why != "" && now.Sub(s.at) < pressureHold {
		return Condition{t, v1.ConditionTrue, "KubeletHas" + insufficient(what), s.why}
	}
	return Condition{t, v1.ConditionFalse, "KubeletHas" + sufficient(what), fmt.Sprintf("node has enough %s", words)}
}

// The API's reasons are not regular: KubeletHasNoDiskPressure beside KubeletHasSufficientMemory.
func sufficient(what string) string {
	if what == "Disk" {
		return "NoDiskPressure"
	}
	return "Sufficient" + what
}

func insufficient(what string) string {
	if what == "Disk" {
		return "DiskPressure"
	}
	return "Insufficient" + what
}
