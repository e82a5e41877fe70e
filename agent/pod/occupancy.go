package pod

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Occupancy is the node as admission sees it: what it offers, and which pods have taken how much of
// it. It is the caller's, who keeps it up to date; the zero value is a node without pods whose
// own facts are not known. Not safe for concurrent use.
type Occupancy struct {
	// Node gives labels and taints. Nil: not known yet, and then no pod is turned away for them.
	Node *v1.Node
	// Allocatable is what pods may use together, the number of pods included. A resource that it does not name is not checked.
	Allocatable v1.ResourceList
	// UnsafeSysctls are those beyond the safe ones that pods may set; "net.core.*" allows all below it.
	UnsafeSysctls []string
	// NoAppArmor says that the machine does not enforce AppArmor profiles, so that pods that name one are turned away.
	NoAppArmor bool

	tenants map[types.UID]tenant
	used    map[v1.ResourceName]int64
}

// tenant is one pod that the node has admitted and that has not ended.
type tenant struct {
	pod      *v1.Pod
	requests map[v1.ResourceName]int64
}

// Take counts a pod in, or counts it anew.
func (o *Occupancy) Take(p *v1.Pod) {
	o.Leave(p.UID)
	if o.tenants == nil {
		o.tenants, o.used = map[types.UID]tenant{}, map[v1.ResourceName]int64{}
	}
	t := tenant{pod: p, requests: requestsOf(p)}
	o.tenants[p.UID] = t
	for name, n := range t.requests {
		o.used[name] += n
	}
}

// Leave counts a pod out.
func (o *Occupancy) Leave(uid types.UID) {
	t, ok := o.tenants[uid]
	if !ok {
		return
	}
	for name, n := range t.requests {
		o.used[name] -= n
	}
	delete(o.tenants, uid)
}

// Pods are those that are counted in, in no order.
func (o *Occupancy) Pods() []*v1.Pod {
	out := make([]*v1.Pod, 0, len(o.tenants))
	for _, t := range o.tenants {
		out = append(out, t.pod)
	}
	return out
}

// requestsOf is what a pod takes: thousandths of a CPU, bytes, pieces. The pod itself is one of "pods".
func requestsOf(p *v1.Pod) map[v1.ResourceName]int64 {
	list, _ := Resources(p)
	out := map[v1.ResourceName]int64{v1.ResourcePods: 1}
	for name, q := range list {
		out[name] = amount(name, q)
	}
	return out
}

// shortage is one resource of which there is too little.
type shortage struct {
	name                      v1.ResourceName
	requested, used, capacity int64
}

func (s shortage) lacking() int64 { return s.requested - (s.capacity - s.used) }

func (s shortage) rejection() *Rejection {
	return &Rejection{
		Reason: "OutOf" + string(s.name),
		Message: fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d",
			s.name, s.requested, s.used, s.capacity),
	}
}

// shortages are the resources that do not suffice for one pod more, pods and CPU and memory first.
func (o *Occupancy) shortages(p *v1.Pod) []shortage {
	var out []shortage
	requests := requestsOf(p)
	first := []v1.ResourceName{v1.ResourcePods, v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage}
	names := slices.SortedFunc(maps.Keys(requests), func(a, b v1.ResourceName) int {
		return cmp.Or(cmp.Compare(rank(first, a), rank(first, b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		have, known := o.Allocatable[name]
		if !known || requests[name] == 0 {
			continue // also what is not the node's to give, such as resources of the whole cluster
		}
		s := shortage{name: name, requested: requests[name], used: o.used[name], capacity: amount(name, have)}
		if s.lacking() > 0 {
			out = append(out, s)
		}
	}
	return out
}

func rank(list []v1.ResourceName, name v1.ResourceName) int {
	if i := slices.Index(list, name); i >= 0 {
		return i
	}
	return len(list)
}

// takenPort says whether a host port of the pod is another's already.
func (o *Occupancy) takenPort(p *v1.Pod) bool {
	wanted := machinePorts(p)
	if len(wanted) == 0 {
		return false
	}
	for uid, t := range o.tenants {
		if uid == p.UID {
			continue
		}
		for _, have := range machinePorts(t.pod) {
			if slices.ContainsFunc(wanted, have.collides) {
				return true
			}
		}
	}
	return false
}

// machinePort is one port on the machine. The empty address is all addresses.
type machinePort struct {
	ip       string
	protocol v1.Protocol
	number   int32
}

func (h machinePort) collides(o machinePort) bool {
	return h.number == o.number && h.protocol == o.protocol && (h.ip == o.ip || h.ip == "" || o.ip == "")
}

func machinePorts(p *v1.Pod) []machinePort {
	var out []machinePort
	add := func(c *v1.Container) {
		for _, port := range c.Ports {
			if port.HostPort == 0 {
				continue
			}
			ip := port.HostIP
			if ip == "0.0.0.0" || ip == "::" {
				ip = ""
			}
			out = append(out, machinePort{ip, cmp.Or(port.Protocol, v1.ProtocolTCP), port.HostPort})
		}
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; KindOf(c) == Sidecar {
			add(c)
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return out
}
