package device

import (
	"fmt"
	"slices"
)

// offer is what there is to choose from. Which NUMA node a device is at is not looked at.
type offer struct {
	healthy map[string]bool // devices by id
	taken   map[string]bool // those that a pod has, this one included
	// reusable are those of this pod's init containers that have ended by the time the container runs.
	reusable map[string]bool
}

// split gives the devices that the container takes over from others of its pod, and those that it may choose the rest
// from; both sorted. PURE. The error is Kubernetes' for a node that has too few.
func (o offer) split(resource string, count int) (over, free []string, err error) {
	for id, healthy := range o.healthy {
		switch {
		case !healthy:
		case o.reusable[id]:
			over = append(over, id)
		case !o.taken[id]:
			free = append(free, id)
		}
	}
	slices.Sort(over)
	slices.Sort(free)
	over = over[:min(len(over), count)]
	if needed := count - len(over); needed > len(free) {
		return nil, nil, fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", resource, needed, len(free))
	}
	return over, free, nil
}

// choose takes what is taken over, then what the plugin prefers as far as it is free, and then by id. PURE. The result
// has count devices where over and free have that many, and is sorted.
func choose(count int, over, free, preferred []string) []string {
	out := slices.Clone(over[:min(len(over), count)])
	for _, list := range [][]string{preferred, free} {
		for _, id := range list {
			if len(out) < count && slices.Contains(free, id) && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	return out
}
