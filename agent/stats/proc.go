package stats

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// link is one network interface's counters since it was made.
type link struct {
	name                                    string
	rxBytes, rxPackets, rxErrors, rxDropped uint64
	txBytes, txPackets, txErrors, txDropped uint64
}

// links are those of the network namespace that a process is in, without loopback. nil: the process is gone.
func (s *Stats) links(pid int) []link {
	data, err := os.ReadFile(filepath.Join(s.proc(), strconv.Itoa(pid), "net/dev"))
	if err != nil {
		return nil
	}
	return parseNetDev(string(data))
}

func (s *Stats) proc() string { return filepath.Join("/", s.c.Host.Root, "proc") }

// parseNetDev reads /proc/PID/net/dev: two lines of head, then "  eth0: " and sixteen numbers.
func parseNetDev(text string) []link {
	var out []link
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 12 {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(fields[i], 10, 64); return v } // a number that is none is 0
		if name = strings.TrimSpace(name); name == "lo" || name == "" {
			continue
		}
		out = append(out, link{
			name: name, rxBytes: n(0), rxPackets: n(1), rxErrors: n(2), rxDropped: n(3),
			txBytes: n(8), txPackets: n(9), txErrors: n(10), txDropped: n(11),
		})
	}
	return out
}

// defaultLink is the interface of the node's default route; empty: there is none.
func (s *Stats) defaultLink() string {
	data, err := os.ReadFile(filepath.Join(s.proc(), "net/route"))
	if err != nil {
		return ""
	}
	return parseRoute(string(data))
}

// parseRoute finds the default route in /proc/net/route: interface, destination, gateway, flags and more.
func parseRoute(text string) string {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) > 7 && fields[1] == "00000000" && fields[7] == "00000000" {
			return fields[0]
		}
	}
	return ""
}

// meminfo is /proc/meminfo in bytes.
func (s *Stats) meminfo() map[string]uint64 {
	data, err := os.ReadFile(filepath.Join(s.proc(), "meminfo"))
	if err != nil {
		return nil
	}
	out := map[string]uint64{}
	for line := range strings.Lines(string(data)) {
		key, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil || n > 1<<50 {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			n <<= 10
		}
		out[key] = n
	}
	return out
}

// bootTime is when the machine was started; zero: unknown.
func (s *Stats) bootTime() time.Time {
	data, err := os.ReadFile(filepath.Join(s.proc(), "stat"))
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "btime "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); err == nil {
				return time.Unix(n, 0)
			}
		}
	}
	return time.Time{}
}

// self is what the kernel says of this process.
type self struct {
	cpu               time.Duration
	resident, virtual uint64
	began             time.Time
	files, filesLimit uint64
	threads           uint64
}

// userTicks is the unit of times in /proc/PID/stat.
const userTicks = time.Second / 100

func (s *Stats) self() self {
	dir := filepath.Join(s.proc(), "self")
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return self{}
	}
	out := parseStat(string(data), s.bootTime())
	if entries, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil {
		out.files = uint64(len(entries))
	}
	limits, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				out.filesLimit, _ = strconv.ParseUint(fields[0], 10, 64) // "unlimited" is 0
			}
		}
	}
	return out
}

// parseStat reads /proc/PID/stat. The second field is a name in brackets that may hold anything.
func parseStat(text string, boot time.Time) self {
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return self{}
	}
	fields := strings.Fields(text[i+1:]) // from field 3 on
	if len(fields) < 22 {
		return self{}
	}
	n := func(i int) uint64 { v, _ := strconv.ParseUint(fields[i-3], 10, 64); return v } // a number that is none is 0
	out := self{
		cpu: time.Duration(n(14)+n(15)) * userTicks, threads: n(20), virtual: n(23), resident: n(24) * uint64(os.Getpagesize()),
	}
	if !boot.IsZero() {
		out.began = boot.Add(time.Duration(n(22)) * userTicks)
	}
	return out
}
