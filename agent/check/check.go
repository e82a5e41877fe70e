// Package check is the preflight of `coracle-agent check`: it tries what the agent will need and
// says, for each thing, what was found and, where it is missing, how to mend it and in which file.
//
// It changes nothing that stays: what it makes to try a kernel feature lives in a namespace of
// its own and is gone when the check ends. It decides nothing for the agent, which finds out for itself.
package check

import (
	"context"
	"fmt"
	"io"
	"strings"

	"coracle/agent/config"
)

// Verdict is how one check ended.
type Verdict int

// A Warning is something that some pods or features will miss; after a Failure the agent does not work.
const (
	OK Verdict = iota
	Warning
	Failure
)

func (v Verdict) String() string {
	return [...]string{"ok", "warn", "FAIL"}[v]
}

// Finding is the outcome of one check.
type Finding struct {
	Name    string
	Verdict Verdict
	Found   string // one line
	Mend    string // what to do; empty when all is well
}

// checks in the order in which a person would mend them.
func checks() []func(context.Context, config.Config) Finding {
	return []func(context.Context, config.Config) Finding{
		root, kernel, confinement, overlay, cgroups, links, firewall, bridgeFilter,
		containerd, shim, ociRuntime, cniPlugins, cniConfig, iptables,
		folders, runDirInMemory, disk, clock, identityKnown, server, logWriter,
	}
}

// Run performs every check.
func Run(ctx context.Context, cfg config.Config) []Finding {
	var out []Finding
	for _, c := range checks() {
		out = append(out, c(ctx, cfg))
	}
	return out
}

// Failed says whether any finding keeps the agent from working.
func Failed(all []Finding) bool {
	for _, f := range all {
		if f.Verdict == Failure {
			return true
		}
	}
	return false
}

// Print writes the findings for a person.
func Print(w io.Writer, all []Finding) error {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%-5s %-14s %s\n", f.Verdict, f.Name, f.Found)
		if f.Mend != "" {
			fmt.Fprintf(&b, "      %-14s → %s\n", "", f.Mend)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func ok(name, format string, args ...any) Finding {
	return Finding{Name: name, Found: fmt.Sprintf(format, args...)}
}

func warn(name, found, mend string) Finding {
	return Finding{Name: name, Verdict: Warning, Found: found, Mend: mend}
}

func fail(name, found, mend string) Finding {
	return Finding{Name: name, Verdict: Failure, Found: found, Mend: mend}
}
