package stream

import (
	"bytes"
	"errors"
	"time"
)

// errNotALogLine is a line that is not of the CRI log format: cut by a power loss, or another's.
var errNotALogLine = errors.New("not a CRI log line")

// logLine is one entry of a log file:
//
//	2016-10-06T00:17:09.669794202Z stdout F the content
//
// The parts refer to the bytes that were parsed.
type logLine struct {
	stamp   []byte // as written
	stream  []byte // "stdout" or "stderr"
	partial bool   // the content goes on in the next entry of the same stream
	content []byte // without newline
}

func parseLine(raw []byte) (logLine, error) {
	raw = bytes.TrimSuffix(raw, []byte{'\n'})
	stamp, rest, ok := bytes.Cut(raw, []byte{' '})
	if !ok || len(stamp) < len("2006-01-02T15:04:05Z") || stamp[4] != '-' || stamp[10] != 'T' {
		return logLine{}, errNotALogLine
	}
	stream, rest, ok := bytes.Cut(rest, []byte{' '})
	if !ok || string(stream) != "stdout" && string(stream) != "stderr" {
		return logLine{}, errNotALogLine
	}
	tags, content, ok := bytes.Cut(rest, []byte{' '})
	if !ok {
		// An empty line may have lost its last space.
		tags, content = rest, nil
	}
	// Tags are separated by colons; the first says whether the line is whole.
	first, _, _ := bytes.Cut(tags, []byte{':'})
	if string(first) != "F" && string(first) != "P" {
		return logLine{}, errNotALogLine
	}
	return logLine{stamp: stamp, stream: stream, partial: first[0] == 'P', content: content}, nil
}

// before is true for a line written before t. A stamp that cannot be read is not before anything.
func (l logLine) before(t time.Time) bool {
	at, err := time.Parse(time.RFC3339Nano, string(l.stamp))
	return err == nil && at.Before(t)
}
