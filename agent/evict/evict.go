// Package evict keeps the node from running out of memory, disk space, inodes and process ids: it says when the node is under
// pressure, frees what nobody uses, and ends pods where that is not enough. It decides which; agent/podrun ends them.
//
//	levels ─▶ Plan ─▶ conditions ─▶ the node's status, and admission of new pods
//	                └▶ thresholds to act on ─▶ Reclaimer ─▶ levels again ─▶ Rank ─▶ one pod ends ─▶ wait, look again
//
// All but measure.go and run.go is PURE: time and figures are arguments. The thresholds, the order in which pods go and the words
// are those of Kubernetes' node-pressure eviction.
//
// Invariants:
//   - A pod goes only where its end frees something of what is short. A kubelet ends pods all the same, one after the other,
//     also where something else has filled the disk.
//   - One pod at a time: while one that was told to go still runs, no other is told.
//   - Static, mirror and system-critical pods are never ended.
//   - Pods are measured only while a threshold is met; else a look costs two small files and a question to each file system.
package evict

import (
	"math"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal names what is watched, in the words of a kubelet's configuration.
type Signal string

// The signals.
const (
	MemoryAvailable   Signal = "memory.available"
	NodefsAvailable   Signal = "nodefs.available"  // where volumes and logs are
	NodefsInodesFree  Signal = "nodefs.inodesFree" // likewise
	ImagefsAvailable  Signal = "imagefs.available" // where containerd keeps images and what containers write
	ImagefsInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// signals are all, the most urgent first: memory, as the kernel ends processes where it runs out.
var signals = []Signal{MemoryAvailable, NodefsAvailable, ImagefsAvailable, NodefsInodesFree, ImagefsInodesFree, PIDAvailable}

// What is short, as messages name it.
const (
	resourceInodes v1.ResourceName = "inodes"
	resourcePids   v1.ResourceName = "pids"
)

// Resource is what a pod must use for its end to help.
func (s Signal) Resource() v1.ResourceName {
	switch s {
	case MemoryAvailable:
		return v1.ResourceMemory
	case NodefsInodesFree, ImagefsInodesFree:
		return resourceInodes
	case PIDAvailable:
		return resourcePids
	}
	return v1.ResourceEphemeralStorage
}

// Condition is the node's condition while the signal is below its threshold.
func (s Signal) Condition() v1.NodeConditionType {
	switch s {
	case MemoryAvailable:
		return v1.NodeMemoryPressure
	case PIDAvailable:
		return v1.NodePIDPressure
	}
	return v1.NodeDiskPressure
}

// Disk says that removing images and dead containers may help.
func (s Signal) Disk() bool { return s.Condition() == v1.NodeDiskPressure }

// Level is how much there is of something and how much of it is free: bytes, inodes, process ids.
type Level struct{ Capacity, Available int64 }

// Levels are what could be read. A signal that is missing is not known, and nothing is done for it.
type Levels map[Signal]Level

// Amount is a number, or a share of the capacity where Share is not 0.
type Amount struct {
	Value int64
	Share float64 // 0.1 for 10%
}

func (a Amount) of(capacity int64) int64 {
	if a.Share > 0 {
		return int64(math.Floor(float64(capacity) * a.Share))
	}
	return a.Value
}

// Threshold is one limit. The node is under pressure while less than Limit is free.
type Threshold struct {
	Signal Signal
	Limit  Amount
	// Reclaim is how much more than Limit must be free again before it is left alone.
	Reclaim Amount
	// Soft limits are acted upon once they have been met for Grace.
	Soft  bool
	Grace time.Duration
}

// missing is how much must become free; 0 and less: the threshold is not met.
func (t Threshold) missing(l Levels, reclaim bool) int64 {
	level, known := l[t.Signal]
	if !known || level.Capacity <= 0 {
		return 0
	}
	n := t.Limit.of(level.Capacity) - level.Available
	if reclaim {
		n += t.Reclaim.of(level.Capacity)
	}
	return n
}

// quantity writes an amount of a resource as Kubernetes does.
func quantity(r v1.ResourceName, n int64) string {
	format := resource.DecimalSI
	if r == v1.ResourceMemory || r == v1.ResourceEphemeralStorage {
		format = resource.BinarySI
	}
	return resource.NewQuantity(n, format).String()
}
