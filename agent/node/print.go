package node

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes the status for a person.
func (s Status) Print(w io.Writer, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "node        %s\n", s.Node)
	fmt.Fprintf(&b, "agent       %s, process %d, up %s\n", s.Version, s.PID, now.Sub(s.Began).Round(time.Second))
	fmt.Fprintf(&b, "connection  %s\n", s.connection(now))
	if s.Ready {
		fmt.Fprintf(&b, "ready       yes\n")
	} else {
		fmt.Fprintf(&b, "ready       no: %s\n", strings.Join(s.Problems, "; "))
	}
	fmt.Fprintf(&b, "runtime     %s, %s\n", orNone(s.Runtime), orNone(s.OCIRuntime))
	fmt.Fprintf(&b, "network     %s, addresses %s\n", orNone(s.Network), orNone(strings.Join(s.Addresses, ", ")))
	fmt.Fprintf(&b, "log writer  %s\n", s.LogWriter)

	fmt.Fprintf(&b, "\npods (%d)\n", len(s.Pods))
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, p := range s.Pods {
		ready := "not ready"
		if p.Ready {
			ready = "ready"
		}
		var containers []string
		for _, name := range slices.Sorted(maps.Keys(p.Containers)) {
			containers = append(containers, name+": "+p.Containers[name])
		}
		fmt.Fprintf(t, "  %s/%s\t%s\t%s\t%s\t%d restarts\t%s\n", p.Namespace, p.Name, orNone(p.Phase), ready, orNone(p.IP), p.Restarts, strings.Join(containers, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nimages (%d)\n", len(s.Images))
	for _, i := range s.Images {
		name := "-"
		if len(i.Names) > 0 {
			name = i.Names[0]
		}
		fmt.Fprintf(&b, "  %8.1f MB  %s\n", float64(i.Size)/1e6, name)
	}
	if len(s.Pulls) > 0 {
		fmt.Fprintf(&b, "\npulls (%d)\n", len(s.Pulls))
		for _, p := range s.Pulls {
			fmt.Fprintf(&b, "  %8.1f MB  %s, for %s\n", float64(p.Bytes)/1e6, p.Image, now.Sub(p.Began).Round(time.Second))
		}
	}
	if len(s.Troubles) > 0 {
		fmt.Fprintf(&b, "\nlast troubles\n")
		for _, e := range s.Troubles {
			fmt.Fprintf(&b, "  %s  %-5s %s\n", e.Time.Format(time.RFC3339), e.Level, e.Message)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s Status) connection(now time.Time) string {
	c := s.Connection
	var parts []string
	if c.Connected {
		parts = append(parts, fmt.Sprintf("connected to %s (gateway %s, %s) for %s", c.Server, c.Gateway, c.ServerVersion, now.Sub(c.Since).Round(time.Second)))
	} else {
		parts = append(parts, "not connected to "+c.Server)
		if !c.Since.IsZero() {
			parts = append(parts, "since "+c.Since.Format(time.RFC3339))
		}
		if c.LastError != "" {
			parts = append(parts, "last error: "+c.LastError)
		}
	}
	return strings.Join(parts, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
