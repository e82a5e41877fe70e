package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
)

// Allocation is the CPU and memory that the node has granted a pod. It differs from the spec while a resize waits, and is
// what everything on the node goes by. A pod that asks for neither has none: its class, which may not change, is BestEffort.
type Allocation struct {
	Pod        *v1.ResourceRequirements           `json:"pod,omitempty"`
	Containers map[string]v1.ResourceRequirements `json:"c,omitempty"`
}

// computeResources are those that may change in a running pod.
var computeResources = []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory}

// allocationOf is what the spec asks for; nil for a pod that asks for nothing.
func allocationOf(pod *v1.Pod) *Allocation {
	a := &Allocation{Containers: map[string]v1.ResourceRequirements{}}
	if r := pod.Spec.Resources; r != nil {
		c := Compute(*r)
		a.Pod = &c
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if c := Compute(list[i].Resources); len(c.Requests)+len(c.Limits) > 0 {
				a.Containers[list[i].Name] = c
			}
		}
	}
	if a.Pod == nil && len(a.Containers) == 0 {
		return nil
	}
	return a
}

// Granted is the pod with the resources that the node has granted it in place of those that its spec asks for. It is the
// pod itself where they are the same, and shares all else with it otherwise.
func Granted(pod *v1.Pod, a *Allocation) *v1.Pod {
	if a == nil || !differs(pod, a) {
		return pod
	}
	out := *pod
	if r := pod.Spec.Resources; r != nil && a.Pod != nil {
		granted := withCompute(*r, *a.Pod)
		out.Spec.Resources = &granted
	}
	for _, list := range []*[]v1.Container{&out.Spec.InitContainers, &out.Spec.Containers} {
		*list = slices.Clone(*list)
		for i := range *list {
			c := &(*list)[i]
			c.Resources = withCompute(c.Resources, a.Containers[c.Name])
		}
	}
	return &out
}

// differs says that the spec asks for other resources than those granted.
func differs(pod *v1.Pod, a *Allocation) bool {
	if r := pod.Spec.Resources; r != nil && a.Pod != nil && !sameCompute(*r, *a.Pod) {
		return true
	}
	for _, list := range [][]v1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !sameCompute(list[i].Resources, a.Containers[list[i].Name]) {
				return true
			}
		}
	}
	return false
}

// Compute is the part of r that may change in a running pod.
func Compute(r v1.ResourceRequirements) v1.ResourceRequirements {
	return v1.ResourceRequirements{Requests: computeList(r.Requests), Limits: computeList(r.Limits)}
}

func computeList(list v1.ResourceList) v1.ResourceList {
	var out v1.ResourceList
	for _, name := range computeResources {
		if q, ok := list[name]; ok {
			if out == nil {
				out = v1.ResourceList{}
			}
			out[name] = q
		}
	}
	return out
}

// withCompute is r with the CPU and memory of from.
func withCompute(r, from v1.ResourceRequirements) v1.ResourceRequirements {
	r.Requests, r.Limits = withList(r.Requests, from.Requests), withList(r.Limits, from.Limits)
	return r
}

func withList(list, from v1.ResourceList) v1.ResourceList {
	out := v1.ResourceList{}
	for name, q := range list {
		if !slices.Contains(computeResources, name) {
			out[name] = q
		}
	}
	overwrite(out, computeList(from))
	if len(out) == 0 {
		return nil
	}
	return out
}

func sameCompute(a, b v1.ResourceRequirements) bool {
	return len(changedCompute(a, b)) == 0
}

// changedCompute are the resources of which request or limit differ.
func changedCompute(a, b v1.ResourceRequirements) []v1.ResourceName {
	var out []v1.ResourceName
	for _, name := range computeResources {
		if !sameQuantity(a.Requests, b.Requests, name) || !sameQuantity(a.Limits, b.Limits, name) {
			out = append(out, name)
		}
	}
	return out
}

func sameQuantity(a, b v1.ResourceList, name v1.ResourceName) bool {
	x, inA := a[name]
	y, inB := b[name]
	return inA == inB && x.Cmp(y) == 0
}

// Room is what a node can grant.
type Room struct {
	// Allocatable is what pods may ask for altogether.
	Allocatable v1.ResourceList
	// Taken is what the other pods on the node were granted.
	Taken v1.ResourceList
	// Swap says that burstable pods' containers may swap: how much follows from their memory, which cannot change in place then.
	Swap bool
}

// Room is what the node can grant the pod of this uid.
func (o *Occupancy) Room(uid types.UID) *Room {
	own := o.tenants[uid].requests
	return &Room{Allocatable: o.Allocatable, Taken: v1.ResourceList{
		v1.ResourceCPU:    *resource.NewMilliQuantity(o.used[v1.ResourceCPU]-own[v1.ResourceCPU], resource.DecimalSI),
		v1.ResourceMemory: *resource.NewQuantity(o.used[v1.ResourceMemory]-own[v1.ResourceMemory], resource.BinarySI),
	}}
}

// AsksResize says that the pod asks for other resources than the node has granted it, so that Plan wants to know the Room.
func AsksResize(pod *v1.Pod, f Facts) bool {
	return f.Allocated != nil && f.Finished == "" && pod.DeletionTimestamp == nil && differs(pod, f.Allocated)
}
