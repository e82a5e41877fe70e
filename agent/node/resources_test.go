package node

import (
	"testing"

	"coracle/agent/fact"
)

// A machine that does not tell its size, and `reset`, which does not ask, must not leave pods with a byte of memory.
func TestUnknownSizeSetsNoLimit(t *testing.T) {
	n := &Node{host: fact.Host{Root: t.TempDir()}}
	limits, err := n.nodeLimits()
	if err != nil || limits.Memory != 0 || limits.Pids != 0 {
		t.Errorf("limits %+v, %v", limits, err)
	}
}
