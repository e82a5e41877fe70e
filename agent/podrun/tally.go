package podrun

import "coracle/agent/probe"

// ProbeTallies are the outcomes of the probes that run now, for monitoring.
func (r *Runner) ProbeTallies() []probe.Tally { return r.probes.Tallies() }
