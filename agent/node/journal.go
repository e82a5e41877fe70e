package node

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// journalSize is how many troubles `coracle-agent status` can show.
const journalSize = 20

// Journal is a log handler that passes everything on and keeps the last warnings and errors.
type Journal struct {
	slog.Handler
	kept *journalRing
	with string
}

type journalRing struct {
	mu      sync.Mutex
	records []Trouble
}

// Trouble is one warning or error of the recent past.
type Trouble struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
}

// NewJournal wraps a handler.
func NewJournal(h slog.Handler) *Journal { return &Journal{Handler: h, kept: &journalRing{}} }

// Enabled implements slog.Handler: warnings are kept also where the log leaves them out.
func (j *Journal) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || j.Handler.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (j *Journal) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var b strings.Builder
		b.WriteString(r.Message)
		b.WriteString(j.with)
		r.Attrs(func(a slog.Attr) bool {
			b.WriteString(" " + a.String())
			return true
		})
		j.kept.add(Trouble{Time: r.Time, Level: r.Level.String(), Message: b.String()})
	}
	if !j.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return j.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (j *Journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := j.with
	for _, a := range attrs {
		with += " " + a.String()
	}
	return &Journal{Handler: j.Handler.WithAttrs(attrs), kept: j.kept, with: with}
}

// WithGroup implements slog.Handler.
func (j *Journal) WithGroup(name string) slog.Handler {
	return &Journal{Handler: j.Handler.WithGroup(name), kept: j.kept, with: j.with}
}

// Troubles gives what was kept, the oldest first.
func (j *Journal) Troubles() []Trouble {
	j.kept.mu.Lock()
	defer j.kept.mu.Unlock()
	return append([]Trouble(nil), j.kept.records...)
}

func (r *journalRing) add(t Trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.records) == journalSize {
		r.records = append(r.records[:0], r.records[1:]...)
	}
	r.records = append(r.records, t)
}
