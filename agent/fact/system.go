package fact

import (
	"os"
	"strings"
)

// Kernel is the release, as `uname -r` prints it.
func (h Host) Kernel() string { return h.read("proc/sys/kernel/osrelease") }

// OSImage is the distribution's own name for itself; "Linux" where it has none.
func (h Host) OSImage() string {
	for line := range strings.Lines(h.firstOf("etc/os-release", "usr/lib/os-release")) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			if name := strings.Trim(value, `"'`); name != "" {
				return name
			}
		}
	}
	return "Linux"
}

// Hostname is the machine's name in lower case, as node names must be.
func Hostname() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return strings.ToLower(strings.TrimSpace(name)), nil
}
