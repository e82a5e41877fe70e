package logwriter

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123000000, time.FixedZone("here", 3600))

const stamp = "2026-03-04T11:00:00.123000000Z"

func TestEncode(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := []struct {
		name  string
		reads []string
		want  string
	}{
		{"lines", []string{"a\nb\n"}, stamp + " stdout F a\n" + stamp + " stdout F b\n"},
		{"empty line", []string{"\n"}, stamp + " stdout F \n"},
		{"line in two reads", []string{"a", "b\n"}, stamp + " stdout F ab\n"},
		{"unfinished", []string{"a\nb"}, stamp + " stdout F a\n"},
		{"just as long as a part", []string{long + "\n"}, stamp + " stdout F " + long + "\n"},
		{"longer than a part", []string{long + "yz\n"}, stamp + " stdout P " + long + "\n" + stamp + " stdout F yz\n"},
		{"longer than a part, in pieces", []string{long[:10], long[10:] + "y", "z\n"}, stamp + " stdout P " + long + "\n" + stamp + " stdout F yz\n"},
		{"carriage return", []string{"a\r\n"}, stamp + " stdout F a\r\n"},
	}
	for _, test := range tests {
		e := encoder{stream: "stdout"}
		var out []byte
		for _, read := range test.reads {
			out = e.encode(out, []byte(read), noon)
		}
		if string(out) != test.want {
			t.Errorf("%s: got\n%.200q\nwant\n%.200q", test.name, out, test.want)
		}
	}
	e := encoder{stream: "stderr"}
	e.encode(nil, []byte("rest"), noon)
	if got := string(e.flush(nil, 'F', noon)); got != stamp+" stderr F rest\n" {
		t.Errorf("flush = %q", got)
	}
	if got := e.flush(nil, 'F', noon); len(got) != 0 {
		t.Errorf("second flush = %q", got)
	}
}

// decode is what a reader of CRI logs makes of them: parts are joined.
func decode(t interface{ Fatalf(string, ...any) }, log []byte) []byte {
	var out []byte
	for _, line := range bytes.SplitAfter(log, []byte{'\n'}) {
		if len(line) == 0 {
			continue
		}
		fields := bytes.SplitN(line, []byte{' '}, 4)
		if len(fields) != 4 || len(fields[2]) != 1 {
			t.Fatalf("not a CRI line: %q", line)
		}
		if fields[2][0] == 'P' {
			fields[3] = bytes.TrimSuffix(fields[3], []byte{'\n'})
		}
		out = append(out, fields[3]...)
	}
	return out
}

// However output is cut into reads, a reader of the log gets the same bytes.
func TestEncodeLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text []byte
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 3*maxLine), 0, 5).Draw(t, "lines") {
			text = append(append(text, bytes.Repeat([]byte{'l'}, n)...), '\n')
		}
		e := encoder{stream: "stdout"}
		var log []byte
		for rest := text; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "read")
			log = e.encode(log, rest[:n], noon)
			rest = rest[n:]
		}
		log = e.flush(log, 'F', noon)
		if got := decode(t, log); !bytes.Equal(got, text) {
			t.Fatalf("%d bytes became %d", len(text), len(got))
		}
		for _, line := range bytes.Split(log, []byte{'\n'}) {
			if len(line) > maxLine+len(stamp)+len(" stdout P ") {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
	})
}

func FuzzRegistration(f *testing.F) {
	f.Add([]byte(`{"logPath":"/var/log/pods/a/b/0.log","tty":true}`))
	f.Add([]byte(`{"logPath":"relative"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseRegistration("id", data); err == nil && !strings.HasPrefix(r.LogPath, "/") {
			t.Errorf("accepted log path %q", r.LogPath)
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(nil, frameStdout, []byte("hello")))
	f.Add([]byte{frameError, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, content, err := readFrame(bytes.NewReader(data), nil)
		if err == nil && !bytes.HasPrefix(data, appendFrame(nil, kind, content)) {
			t.Errorf("%q was read as %d %q", data, kind, content)
		}
	})
}
