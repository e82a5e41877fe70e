package probe

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// Tally is how often one probe has ended in each outcome since its container started.
type Tally struct {
	UID         types.UID // of the pod
	ContainerID string
	Container   string
	Kind        pod.ProbeKind
	Ended       [Warned + 1]uint32 // by Outcome
}

// Tallies are those of the probes that run now, in a stable order.
func (p *Probes) Tallies() []Tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Tally
	for uid, pp := range p.pods {
		for k, r := range pp.running {
			out = append(out, Tally{UID: uid, ContainerID: k.id, Container: r.target.Container, Kind: k.kind, Ended: r.ended})
		}
	}
	slices.SortFunc(out, func(a, b Tally) int {
		return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}
