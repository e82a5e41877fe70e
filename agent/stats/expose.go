package stats

import (
	"bufio"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// textFormat is the media type of the Prometheus text format.
const textFormat = "text/plain; version=0.0.4; charset=utf-8"

// exposition writes the Prometheus text format. All samples of a family come together, after its head.
type exposition struct{ w *bufio.Writer }

// expose answers with what write writes.
func expose(w http.ResponseWriter, write func(e *exposition)) {
	w.Header().Set("Content-Type", textFormat)
	e := &exposition{bufio.NewWriterSize(w, 16<<10)}
	write(e)
	_ = e.w.Flush() // a client that is gone needs no metrics
}

// head begins a family. kind is counter, gauge or histogram.
func (e *exposition) head(name, kind, help string) {
	e.put("# HELP ", name, " ", helpEscaper.Replace(help), "\n# TYPE ", name, " ", kind, "\n")
}

// one is a family of one sample.
func (e *exposition) one(name, kind, help string, value float64) {
	e.head(name, kind, help)
	e.sample(name, nil, value, time.Time{})
}

// histogram is a family of one histogram.
func (e *exposition) histogram(name, help string, h Histogram) {
	e.head(name, "histogram", help)
	for i, bound := range h.Bounds {
		e.sample(name+"_bucket", []string{"le", number(bound)}, float64(h.Within[i]), time.Time{})
	}
	e.sample(name+"_bucket", []string{"le", "+Inf"}, float64(h.Count), time.Time{})
	e.sample(name+"_sum", nil, h.Sum, time.Time{})
	e.sample(name+"_count", nil, float64(h.Count), time.Time{})
}

// sample writes one. labels are pairs of name and value. A zero time is none: the scraper's counts.
func (e *exposition) sample(name string, labels []string, value float64, at time.Time) {
	e.put(name)
	for i := 0; i+1 < len(labels); i += 2 {
		if i == 0 {
			e.put("{")
		} else {
			e.put(",")
		}
		e.put(labels[i], `="`, valueEscaper.Replace(labels[i+1]), `"`)
	}
	if len(labels) > 1 {
		e.put("}")
	}
	e.put(" ", number(value))
	if !at.IsZero() {
		e.put(" ", strconv.FormatInt(at.UnixMilli(), 10))
	}
	e.put("\n")
}

// put buffers; what is wrong with the connection shows when it is flushed.
func (e *exposition) put(parts ...string) {
	for _, p := range parts {
		_, _ = e.w.WriteString(p)
	}
}

var (
	helpEscaper  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	valueEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
