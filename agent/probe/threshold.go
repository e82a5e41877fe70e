// Package probe runs startup, readiness and liveness probes and holds what they say at present.
//
// It owns the thresholds (PURE, this file), the four ways of probing, and the timing. It does
// not decide which probes run (agent/pod does, and podrun hands the list over) nor what
// follows from a verdict.
//
// Invariants: a verdict is Unknown until this run of the agent has seen enough results in a
// row; a probe that could not be carried out says nothing; nothing is written and nothing is
// kept of containers that are no longer in the list.
package probe

import (
	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
)

// Outcome is what one probing found.
type Outcome int

// The outcomes. Errored is a probe that could not be carried out: it counts for nothing.
const (
	Errored Outcome = iota
	Passed
	Failed
	Warned // passed, but not as one would expect: a redirect that was not followed
)

// Count is where one probe stands. The zero value is a probe that has not run.
type Count struct {
	Passed, Failed int // in a row; one of them is 0
	Verdict        pod.Verdict
}

// Next counts one outcome. The verdict changes when enough of the same have come in a row.
func (c Count) Next(o Outcome, p *v1.Probe) Count {
	switch o {
	case Passed, Warned:
		c.Passed, c.Failed = c.Passed+1, 0
		if c.Passed >= max(int(p.SuccessThreshold), 1) {
			c.Verdict = pod.Success
		}
	case Failed:
		c.Passed, c.Failed = 0, c.Failed+1
		if c.Failed >= failureThreshold(p) {
			c.Verdict = pod.Failure
		}
	}
	return c
}

// defaultFailures is Kubernetes' failureThreshold where the spec has none.
const defaultFailures = 3

func failureThreshold(p *v1.Probe) int {
	if p.FailureThreshold <= 0 {
		return defaultFailures
	}
	return int(p.FailureThreshold)
}
