package testlog

import (
	"fmt"
	"io"
	"testing"
)

// recorder is a test whose end is called for.
type recorder struct {
	testing.TB
	said string
	end  func()
}

func (r *recorder) Log(args ...any)  { r.said += fmt.Sprintln(args...) }
func (r *recorder) Cleanup(f func()) { r.end = f }

func TestWriter(t *testing.T) {
	r := &recorder{TB: t}
	w := Writer(r)
	for _, line := range []string{"one\n", "two\n"} {
		if n, err := io.WriteString(w, line); n != len(line) || err != nil {
			t.Error(n, err)
		}
	}
	r.end()
	if n, err := io.WriteString(w, "late\n"); n != 5 || err != nil || r.said != "one\ntwo\n" {
		t.Errorf("%d %v, logged %q", n, err, r.said)
	}
}
