package fact

import (
	"strconv"
	"strings"
)

// Pids is the number of processes and threads that the kernel allows, and how many there are. 0: unknown.
type Pids struct{ Max, Used int64 }

// Pids reads the smaller of pid_max and threads-max, and the count of tasks in /proc/loadavg
// ("0.00 0.01 0.05 2/345 6789": running/total, last pid).
func (h Host) Pids() Pids {
	var p Pids
	for _, f := range []string{"proc/sys/kernel/pid_max", "proc/sys/kernel/threads-max"} {
		n, err := strconv.ParseInt(h.read(f), 10, 64)
		if err == nil && n > 0 && (p.Max == 0 || n < p.Max) {
			p.Max = n
		}
	}
	fields := strings.Fields(h.read("proc/loadavg"))
	if len(fields) > 3 {
		_, total, _ := strings.Cut(fields[3], "/")
		if n, err := strconv.ParseInt(total, 10, 64); err == nil && n >= 0 {
			p.Used = n
		}
	}
	return p
}
