package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"coracle/agent/cgroup"
	"coracle/agent/config"
	"coracle/agent/fact"
	"coracle/agent/pod"
)

// buildCgroups finds the machine's cgroups and gives the group of all pods what the configuration leaves for them.
func (n *Node) buildCgroups() (err error) {
	n.cgroups, err = cgroup.New(cgroup.Config{
		Root: n.cfg.CgroupRoot, Driver: n.cfg.CgroupDriver, PodPids: n.cfg.PodPidsLimit,
		ReserveMemory: n.cfg.Memory.Reservation == config.ReserveTiered, Log: n.log,
	})
	if err != nil {
		return err
	}
	if m := n.cfg.Memory; !n.cgroups.Unified() && (m.Swap == config.LimitedSwap || m.Throttling > 0) {
		return errors.New("memory.swap LimitedSwap and memory.throttling take cgroup v2, and this machine has v1; boot it with systemd.unified_cgroup_hierarchy=1 or take them out of the configuration")
	}
	limits, err := n.nodeLimits()
	if err != nil {
		return err
	}
	// Pods run without it too, so that a node whose pods use more than is left for them comes up all the same.
	if err := n.cgroups.EnsureNode(context.Background(), limits); err != nil {
		n.log.Warn("pods are not held to what is left of the node for them", "err", err)
		n.gaps = append(n.gaps, "pods are not held to what is left of the node for them: "+err.Error())
	}
	n.gaps = append(n.gaps, n.cgroups.Gaps()...)
	return nil
}

// nodeLimits is what is left of the machine for pods. What must stay free for the node not to be under pressure is not
// taken off: eviction sees to that before the kernel does.
func (n *Node) nodeLimits() (cgroup.NodeLimits, error) {
	reserved, err := n.cfg.ReservedResources()
	if err != nil {
		return cgroup.NodeLimits{}, err
	}
	var l cgroup.NodeLimits
	// What is not known sets no limit.
	if cpus := int64(n.host.CPUs()); cpus > 0 {
		l.MilliCPU = max(cpus*1000-reserved.Cpu().MilliValue(), 1)
	}
	if total := n.host.Memory().Total; total > 0 {
		l.Memory = max(total-reserved.Memory().Value(), 1)
	}
	pids, ok := reserved["pid"]
	if most := n.host.Pids().Max; ok && most > 0 {
		l.Pids = max(most-pids.Value(), 1)
	}
	return l, nil
}

// memoryPolicy is the configuration's, with the machine's swap where pods may have it.
func (n *Node) memoryPolicy() pod.MemoryPolicy {
	p := pod.MemoryPolicy{Throttling: n.cfg.Memory.Throttling, Reserve: n.cfg.Memory.Reservation == config.ReserveTiered}
	if n.cfg.Memory.Swap == config.LimitedSwap {
		p.SwapBytes = n.host.Memory().SwapTotal
	}
	return p
}

// limitsCondition says what pods may ask for and this machine cannot give.
func (n *Node) limitsCondition() fact.Condition {
	gaps := slices.Clone(n.gaps)
	if floor := n.runtime.OOMFloor(); floor > -1000 {
		gaps = append(gaps, fmt.Sprintf("oom_score_adj below %d cannot be set: the agent lacks CAP_SYS_RESOURCE", floor))
	}
	if gap := n.devices.Gap(); gap != "" {
		gaps = append(gaps, gap)
	}
	return fact.Limits(gaps)
}
