package fact

import (
	"strconv"
	"strings"
)

// Memory is in bytes.
type Memory struct {
	Total     int64
	Available int64 // what could be had without swapping
	SwapTotal int64
}

// Memory reads /proc/meminfo. Kernels before 3.14 have no MemAvailable; free and page cache stand in.
func (h Host) Memory() Memory {
	return parseMeminfo(h.read("proc/meminfo"))
}

func parseMeminfo(text string) Memory {
	kb := map[string]int64{}
	for line := range strings.Lines(text) {
		key, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil || n < 0 || n > 1<<50 {
			continue
		}
		kb[strings.TrimSpace(key)] = n
	}
	m := Memory{Total: kb["MemTotal"] * 1024, SwapTotal: kb["SwapTotal"] * 1024}
	available, ok := kb["MemAvailable"]
	if !ok {
		available = kb["MemFree"] + kb["Buffers"] + kb["Cached"]
	}
	m.Available = min(available*1024, m.Total)
	return m
}
