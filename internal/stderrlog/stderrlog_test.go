package stderrlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestTimeIsLeftToTheJournal(t *testing.T) {
	line := func() string {
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, Options(slog.LevelInfo))).Info("ready", "time", "mine")
		return out.String()
	}
	t.Setenv("JOURNAL_STREAM", "")
	if got := line(); !strings.HasPrefix(got, "time=2") {
		t.Errorf("on a terminal: %q", got)
	}
	t.Setenv("JOURNAL_STREAM", "8:1234")
	if got := line(); strings.Contains(got, "time=2") || !strings.Contains(got, "msg=ready") {
		t.Errorf("under the journal: %q", got)
	}
}
