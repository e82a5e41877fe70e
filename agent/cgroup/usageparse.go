package cgroup

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// pairs reads lines of "key number", as cpu.stat and memory.stat are.
func pairs(data []byte) map[string]uint64 {
	out := map[string]uint64{}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok {
			out[key] = natural(strings.TrimSpace(value))
		}
	}
	return out
}

// unifiedDevices reads io.stat: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
func unifiedDevices(data []byte) []DeviceIO {
	var out []DeviceIO
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !strings.Contains(fields[0], ":") {
			continue
		}
		d := DeviceIO{Device: fields[0]}
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "rbytes":
				d.ReadBytes = natural(value)
			case "wbytes":
				d.WrittenBytes = natural(value)
			case "rios":
				d.ReadCount = natural(value)
			case "wios":
				d.WriteCount = natural(value)
			}
		}
		out = append(out, d)
	}
	return out
}

// legacyDevices reads blkio's counters of a group and those below it: lines of "8:0 Read 4096".
func legacyDevices(dir string, there bool) []DeviceIO {
	if !there {
		return nil
	}
	found := map[string]*DeviceIO{}
	each := func(file string, set func(d *DeviceIO, op string, n uint64)) {
		for line := range strings.Lines(string(bytesOf(dir, file))) {
			fields := strings.Fields(line)
			if len(fields) != 3 || !strings.Contains(fields[0], ":") {
				continue
			}
			if found[fields[0]] == nil {
				found[fields[0]] = &DeviceIO{Device: fields[0]}
			}
			set(found[fields[0]], fields[1], natural(fields[2]))
		}
	}
	each("blkio.throttle.io_service_bytes_recursive", func(d *DeviceIO, op string, n uint64) {
		switch op {
		case "Read":
			d.ReadBytes = n
		case "Write":
			d.WrittenBytes = n
		}
	})
	each("blkio.throttle.io_serviced_recursive", func(d *DeviceIO, op string, n uint64) {
		switch op {
		case "Read":
			d.ReadCount = n
		case "Write":
			d.WriteCount = n
		}
	})
	out := make([]DeviceIO, 0, len(found))
	for _, d := range found {
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b DeviceIO) int { return strings.Compare(a.Device, b.Device) })
	return out
}

// pressure reads lines of "some avg10=0.00 avg60=0.00 avg300=0.00 total=12".
func pressure(data []byte) Pressure {
	var p Pressure
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		var stall Stall
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(field, "=")
			share, err := strconv.ParseFloat(value, 64)
			if err != nil || share < 0 {
				continue
			}
			switch key {
			case "avg10":
				stall.Avg10 = share
			case "avg60":
				stall.Avg60 = share
			case "avg300":
				stall.Avg300 = share
			case "total":
				stall.Total = time.Duration(natural(value)) * time.Microsecond
			}
		}
		switch fields[0] {
		case "some":
			p.Some = stall
		case "full":
			p.Full = stall
		}
	}
	return p
}
