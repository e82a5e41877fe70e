package server

import (
	"context"
	"log/slog"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"coracle/controlplane/config"
)

const (
	// memoryFloor is the soft limit of a small cluster: idle use is below it, and a burst is collected early near it.
	memoryFloor = 80 << 20
	// memoryBase is what the process takes beside its heap: stacks, the runtime, etcd's pages.
	memoryBase = 30 << 20
	// memoryInterval is how often the limit follows the heap.
	memoryInterval = 5 * time.Second
)

// memoryLimit is the soft limit for a heap of live bytes: half as much again above it, where the collector left alone
// would take twice. A fixed limit would make it run without end once a cluster has outgrown it.
func memoryLimit(live uint64) int64 {
	return max(memoryFloor, memoryBase+int64(live)+int64(live)/2) //nolint:gosec // a heap fits
}

// limitMemory sets the limit of the configuration, and reports false, or begins with the one of a small cluster. A limit
// in the environment (GOMEMLIMIT) is left alone.
func limitMemory(cfg *config.Config, log *slog.Logger) (follow bool) {
	if cfg.MemoryLimit != "" {
		q, err := resource.ParseQuantity(cfg.MemoryLimit)
		if err != nil {
			log.Warn("memory limit ignored", "memoryLimit", cfg.MemoryLimit, "err", err)
			return false
		}
		debug.SetMemoryLimit(q.Value())
		return false
	}
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return false
	}
	debug.SetMemoryLimit(memoryFloor)
	return true
}

// followMemory moves the limit with the size of the heap until ctx ends.
func followMemory(ctx context.Context) error {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := int64(memoryFloor)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		metrics.Read(sample)
		// Small changes are not worth the pause that setting the limit takes.
		if want := memoryLimit(sample[0].Value.Uint64()); want > set+set/16 || want < set-set/8 {
			debug.SetMemoryLimit(want)
			set = want
		}
	}
}
