package node

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/evict"
	"coracle/agent/pod"
	"coracle/agent/shutdown"
	"coracle/agent/status"
)

// buildEvictor makes what keeps the node from running out of memory, disk and process ids.
func (n *Node) buildEvictor() error {
	settings, err := n.cfg.Eviction()
	if err != nil {
		return err
	}
	n.evictor = evict.New(evict.Config{
		Settings: settings, Pods: n.runner, Images: unusedImages{n}, Log: n.log,
		Machine: evict.Machine{
			Host: n.host, Cgroups: n.cgroups, Runtime: n.runtime,
			NodeDir: n.cfg.RootDir, LogDir: n.cfg.LogDir, ImageDir: n.images.DiskPath,
		},
		Changed: func() { signal(n.network.changed) },
		Event:   n.nodeEvent,
	})
	return nil
}

func (n *Node) nodeEvent(eventType, reason, message string) {
	n.recorder.Event(status.NodeReference(n.name), eventType, reason, message)
}

// admit is what the node says of a new pod beyond what agent/pod knows.
func (n *Node) admit(p *v1.Pod) *pod.Rejection {
	if n.shutdown.Begun() {
		return pod.ShuttingDown()
	}
	return n.evictor.Admit(p)
}

// buildShutdown makes what ends pods before the machine does.
func (n *Node) buildShutdown() error {
	graces, err := n.cfg.ShutdownGraces()
	if err != nil {
		return err
	}
	c := shutdown.Config{
		Pods: n.runner, Changed: func() { signal(n.network.changed) }, Event: n.nodeEvent, Told: n.told, Log: n.log,
	}
	for _, g := range graces {
		c.Graces = append(c.Graces, shutdown.Grace{Priority: g.Priority, Seconds: g.ShutdownGracePeriodSeconds})
	}
	n.shutdown = shutdown.New(c)
	return nil
}

// told waits until the control plane has heard all that was said, or ctx ends.
func (n *Node) told(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !n.outbox.Empty() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// unusedImages frees disk space for the evictor.
type unusedImages struct{ n *Node }

// Reclaim removes all images that may go: how much each frees is known only afterwards, and a pod is worth more than a pull.
func (u unusedImages) Reclaim(ctx context.Context, _ int64) (int64, error) {
	return u.n.images.RemoveUnused(ctx, u.n.imageGC.users(u.n.imageGC.named()), time.Now())
}
