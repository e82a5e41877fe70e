// Package fact reads what the machine is: one file for each fact, and from all of them the
// Node object that the agent registers and reports.
//
// Every fact tolerates absence. Small boards lack DMI tables, machine ids and whole lines of
// /proc/cpuinfo; none of that may keep a node from joining. A fact that is missing has a
// documented stand-in. Reading is separated from deciding: Host reads files below a root,
// Node and Pressures are pure.
package fact

import (
	"os"
	"path/filepath"
	"strings"
)

// Host reads facts below Root, "/" for the machine itself and a fixture's folder in tests.
type Host struct{ Root string }

// read gives a file's content without surrounding blanks, and "" where there is none or it cannot be read.
func (h Host) read(path string) string {
	data, err := os.ReadFile(filepath.Join(h.Root, path))
	if err != nil {
		return ""
	}
	// The files of a device tree end in NUL.
	return strings.TrimSpace(strings.TrimRight(string(data), "\x00"))
}

// firstOf gives the first file among paths that has content.
func (h Host) firstOf(paths ...string) string {
	for _, p := range paths {
		if s := h.read(p); s != "" {
			return s
		}
	}
	return ""
}
