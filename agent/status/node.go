package status

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	v1 "k8s.io/api/core/v1"
)

// NodeReporter looks at the node again and again and says what changed.
type NodeReporter struct {
	Outbox *Outbox
	// Compute reads the node's facts: labels, annotations and taints to register with, and status.
	Compute func(ctx context.Context) (*v1.Node, error)
	// Interval between two looks. Default 10 s, as node conditions (memory, disk) must show soon.
	Interval time.Duration
	// Wake, where not nil, asks for a look at once (an address changed, the network became ready).
	Wake <-chan struct{}
	Log  *slog.Logger
}

// Run looks until ctx ends. A look that fails leaves the last status standing; each new error is logged once.
func (r *NodeReporter) Run(ctx context.Context) error {
	interval := r.Interval
	if interval == 0 {
		interval = 10 * time.Second
	}
	t := time.NewTicker(interval)
	defer t.Stop()
	last := ""
	for {
		last = r.look(ctx, last)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-r.Wake:
		}
	}
}

func (r *NodeReporter) look(ctx context.Context, last string) string {
	node, err := r.Compute(ctx)
	if err != nil {
		if said := fmt.Sprint(err); said != last && ctx.Err() == nil {
			r.Log.Warn("node status not computed", "err", err)
			return said
		}
		return last
	}
	r.Outbox.SetNode(node)
	return ""
}
