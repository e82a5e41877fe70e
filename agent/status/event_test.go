package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	nodev1 "coracle/proto/node/v1"
)

type tape struct {
	o   *Outbox
	r   *Recorder
	now time.Time
}

func newTape(t *testing.T) *tape {
	tp := &tape{o: open(t, newDisk()), now: time.Unix(1_700_000_000, 0)}
	tp.r = NewRecorder(tp.o, "coracle-agent", "n1", func() time.Time { return tp.now })
	return tp
}

// events returns what is pending, and acknowledges it.
func (tp *tape) events(t *testing.T) []*v1.Event {
	t.Helper()
	var out []*v1.Event
	msgs, _ := tp.o.Pending(0)
	for _, m := range msgs {
		e := &v1.Event{}
		if err := e.Unmarshal(m.GetEvent().GetEvent()); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
		tp.o.Ack(&nodev1.StatusAck{Kind: nodev1.StatusAck_EVENT, Sequence: m.GetEvent().GetSequence()})
	}
	return out
}

var web = ContainerReference(PodReference("default", "web", "u", "1"), "containers", "c")

func TestEventsAreCounted(t *testing.T) {
	tp := newTape(t)
	tp.r.Event(web, v1.EventTypeNormal, "Pulled", "image present")
	one := tp.events(t)
	if len(one) != 1 || one[0].Count != 1 || one[0].Namespace != "default" || !strings.HasPrefix(one[0].Name, "web.") ||
		one[0].InvolvedObject.FieldPath != "spec.containers{c}" || one[0].Source.Host != "n1" || one[0].Source.Component != "coracle-agent" {
		t.Fatalf("got %v", one)
	}
	tp.now = tp.now.Add(time.Minute)
	tp.r.Event(web, v1.EventTypeNormal, "Pulled", "image present")
	tp.r.Event(web, v1.EventTypeNormal, "Pulled", "image present")
	tp.r.Event(web, v1.EventTypeWarning, "Failed", "image present")
	two := tp.events(t)
	if len(two) != 2 || two[0].Name != one[0].Name || two[0].Count != 3 || !two[0].LastTimestamp.After(two[0].FirstTimestamp.Time) || two[1].Count != 1 {
		t.Errorf("got %v", two)
	}
	if two[0].Name == two[1].Name {
		t.Error("two events of one name")
	}
}

func TestSimilarEventsAreToldAsOne(t *testing.T) {
	tp := newTape(t)
	names := map[string]bool{}
	for i := range 15 {
		tp.r.Eventf(web, v1.EventTypeWarning, "Unhealthy", "probe failed after %d ms", i)
		for _, e := range tp.events(t) {
			names[e.Name] = true
			if combined := strings.HasPrefix(e.Message, aggregatedPrefix); combined != (i >= similarLimit-1) {
				t.Errorf("message %d: %q", i, e.Message)
			}
		}
	}
	if len(names) != similarLimit {
		t.Errorf("%d objects for 15 events", len(names))
	}
}

func TestAnObjectThatFloodsIsHeldBack(t *testing.T) {
	tp := newTape(t)
	told := 0
	for range 100 {
		tp.r.Event(web, v1.EventTypeWarning, "BackOff", "again")
		told += len(tp.events(t))
	}
	if told != eventBurst {
		t.Errorf("%d of 100 told at once, want %d", told, eventBurst)
	}
	tp.r.Event(PodReference("default", "other", "v", ""), v1.EventTypeNormal, "Started", "x")
	if len(tp.events(t)) != 1 {
		t.Error("another object is held back too")
	}
	tp.now = tp.now.Add(eventRefill)
	tp.r.Event(web, v1.EventTypeWarning, "BackOff", "again")
	if got := tp.events(t); len(got) != 1 || got[0].Count != 101 { // what was held back counts
		t.Errorf("five minutes later: %v", got)
	}
	tp.now = tp.now.Add(-time.Hour) // a clock that is set back
	tp.r.Event(web, v1.EventTypeWarning, "BackOff", "again")
	if len(tp.events(t)) != 0 {
		t.Error("a clock set back gives tokens")
	}
}

func TestEventsDoNotFillTheMemory(t *testing.T) {
	tp := newTape(t)
	for i := range maxEvents + 50 {
		tp.r.Event(PodReference("default", fmt.Sprint("p", i), "", ""), v1.EventTypeNormal, "Started", "x")
	}
	got := tp.events(t)
	if len(got) != maxEvents || got[0].InvolvedObject.Name != "p50" {
		t.Errorf("%d kept, first %s", len(got), got[0].InvolvedObject.Name)
	}
}

func TestNodeReporterLooksAgainAndSaysErrorsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, newDisk())
		var said strings.Builder
		looks, wake := 0, make(chan struct{})
		r := &NodeReporter{Outbox: o, Interval: time.Minute, Wake: wake, Log: slog.New(slog.NewTextHandler(&said, nil)),
			Compute: func(context.Context) (*v1.Node, error) {
				looks++
				if looks > 2 {
					return nil, errors.New("no /proc")
				}
				return &v1.Node{Status: v1.NodeStatus{Phase: v1.NodePhase(fmt.Sprint(looks))}}, nil
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		wake <- struct{}{}
		synctest.Wait()
		if looks != 2 {
			t.Errorf("%d looks", looks)
		}
		time.Sleep(5*time.Minute + time.Second)
		cancel()
		if err := <-done; err != nil || looks != 7 || strings.Count(said.String(), "no /proc") != 1 {
			t.Errorf("%v, %d looks, said %q", err, looks, said.String())
		}
		if msgs, _ := o.Pending(0); len(msgs) != 1 {
			t.Error("the last status does not stand")
		}
	})
}
