package logwriter

import (
	"bytes"
	"time"
)

// maxLine is where a line is cut into parts, in bytes, as container runtimes do.
const maxLine = 16 * 1024

// encoder turns the raw output of one stream into CRI log lines:
//
//	2016-10-06T00:17:09.669794202Z stdout F the content
//
// A line longer than maxLine becomes several entries tagged P, the last one F. The rest of an
// unfinished line is held until its end comes, the stream ends, or maxLine is reached.
type encoder struct {
	stream string // "stdout" or "stderr"
	held   []byte // the unfinished line
}

// encode appends to dst the entries for what can be written now. It keeps no reference to raw.
func (e *encoder) encode(dst, raw []byte, now time.Time) []byte {
	for len(raw) > 0 {
		line, rest, whole := bytes.Cut(raw, []byte{'\n'})
		if room := maxLine - len(e.held); len(line) > room {
			dst = e.entry(dst, line[:room], 'P', now)
			raw = raw[room:]
			continue
		}
		if !whole {
			e.held = append(e.held, line...)
			return dst
		}
		dst = e.entry(dst, line, 'F', now)
		raw = rest
	}
	return dst
}

// flush appends what is held as an entry with the tag: 'F' at the end of the stream, 'P'
// where more may come.
func (e *encoder) flush(dst []byte, tag byte, now time.Time) []byte {
	if len(e.held) == 0 {
		return dst
	}
	return e.entry(dst, nil, tag, now)
}

func (e *encoder) entry(dst, line []byte, tag byte, now time.Time) []byte {
	dst = now.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000000Z07:00")
	dst = append(dst, ' ')
	dst = append(dst, e.stream...)
	dst = append(dst, ' ', tag, ' ')
	dst = append(dst, e.held...)
	dst = append(dst, line...)
	if cap(e.held) > 4096 {
		e.held = nil // a rare long line must not keep its buffer for ever
	} else {
		e.held = e.held[:0]
	}
	return append(dst, '\n')
}
