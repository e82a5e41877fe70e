package fact

import (
	"runtime"
	"strconv"
	"strings"
)

// CPUs is the number of CPUs that are online, at least 1. /proc/cpuinfo is the second choice
// because its lines differ by architecture; the Go runtime's count is the last because it sees
// the process's own affinity only.
func (h Host) CPUs() int {
	if n := countList(h.read("sys/devices/system/cpu/online")); n > 0 {
		return n
	}
	n := 0
	for line := range strings.Lines(h.read("proc/cpuinfo")) {
		key, _, ok := strings.Cut(line, ":")
		// 32-bit ARM kernels also print "Processor : ARMv7 …" once for the whole machine.
		if ok && strings.TrimSpace(key) == "processor" {
			n++
		}
	}
	if n > 0 {
		return n
	}
	return max(1, runtime.NumCPU())
}

// countList counts the members of a kernel list such as "0-3,6"; 0 when it is malformed.
func countList(s string) int {
	const most = 1 << 16
	n := 0
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(lo)
		if err != nil || a < 0 {
			return 0
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(hi); err != nil || b < a || b-a > most {
				return 0
			}
		}
		n += b - a + 1
	}
	return n
}
