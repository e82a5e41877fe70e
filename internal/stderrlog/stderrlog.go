// Package stderrlog says how the programs write log lines to standard error.
package stderrlog

import (
	"log/slog"
	"os"
)

// Options are those of a handler that writes to standard error: without the time where systemd's journal reads it, which
// adds its own (JOURNAL_STREAM, systemd.exec(5)).
func Options(level slog.Level) *slog.HandlerOptions {
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" {
		options.ReplaceAttr = withoutTime
	}
	return options
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey && len(groups) == 0 {
		return slog.Attr{}
	}
	return a
}
