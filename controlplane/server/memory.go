package server

import (
	"context"
	"log/slog"
	"math"
	"runtime"
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
	// memoryBurst is added while much is asked at once. Without it a hundred pods started together cost a third more
	// CPU, all of it the collector's; it is given back when the burst is over.
	memoryBurst = 64 << 20
	// memoryInterval is how often the limit follows the heap, and how long a burst lasts at least.
	memoryInterval = 5 * time.Second
	// burstCycles is how many collections within a second show a burst. At rest there is less than one.
	burstCycles = 3
)

// memoryLimit is the soft limit for a heap of live bytes: half as much again above it, where the collector left alone
// would take twice. A fixed limit would make it run without end once a cluster has outgrown it.
func memoryLimit(live uint64, burst bool) int64 {
	limit := max(memoryFloor, memoryBase+int64(live)+int64(live)/2) //nolint:gosec // a heap fits
	if burst {
		limit += memoryBurst
	}
	return limit
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

// followMemory moves the limit with the size of the heap and with the work at hand until ctx ends.
func followMemory(ctx context.Context) error {
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	collected := make(chan struct{}, burstCycles) // further cycles than a burst needs say nothing more
	everyCollection(ctx, collected)
	set, burst := int64(memoryFloor), false
	var second time.Time // when the cycles that count as now began
	cycles, sinceTick := 0, 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-collected:
			sinceTick++
			if now := time.Now(); now.Sub(second) > time.Second {
				second, cycles = now, 0
			}
			if cycles++; cycles >= burstCycles && !burst {
				burst = true
				set = memoryLimit(liveHeap(), burst)
				debug.SetMemoryLimit(set)
			}
			continue
		case <-ticker.C:
		}
		over := burst && sinceTick < burstCycles
		burst, sinceTick = burst && !over, 0
		// Small changes are not worth the pause that setting the limit takes.
		if want := memoryLimit(liveHeap(), burst); want > set+set/16 || want < set-set/8 {
			debug.SetMemoryLimit(want)
			set = want
		}
		if over {
			debug.FreeOSMemory()
		}
	}
}

func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// everyCollection sends to c after each cycle of the garbage collector, or drops the word where c is full. It costs
// nothing while there is no cycle: a value that nobody holds is cleaned up by the next one, and then replaced.
func everyCollection(ctx context.Context, c chan<- struct{}) {
	runtime.AddCleanup(&struct{ _ [16]byte }{}, func(struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
		if ctx.Err() == nil {
			everyCollection(ctx, c)
		}
	}, struct{}{})
}
