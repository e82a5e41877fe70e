package podrun

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"coracle/agent/pod"
	"coracle/internal/failpoint"
)

// Back-off of a step that fails: doubling from a second to a minute.
const (
	stepBackOffFirst = time.Second
	stepBackOffMax   = time.Minute
)

func stepBackOff(n int) time.Duration {
	d := stepBackOffFirst
	for ; n > 1 && d < stepBackOffMax; n-- {
		d *= 2
	}
	return min(d, stepBackOffMax)
}

// errNoEffect is given to a step that ended well and is planned again at once: without it a
// door that lies would keep the worker spinning.
var errNoEffect = errors.New("the step ended well and is needed again: it had no visible effect")

// due picks the steps that may be tried now: not those that wait out a failure, nor those
// that need one of them. retry is when the first wait is over.
func (w *worker) due(planned []pod.Step, now time.Time) (steps []pod.Step, retry time.Time) {
	var held []pod.Step
	wanted := map[string]bool{}
	for _, s := range planned {
		wanted[s.String()] = true
	}
	// A failure is over when its step is no longer needed, not when it says so.
	maps.DeleteFunc(w.failures, func(key string, _ *failure) bool { return !wanted[key] })
	for _, s := range planned {
		key := s.String()
		if w.lastDone[key] {
			w.failed(s, errNoEffect)
		}
		f := w.failures[key]
		if f != nil && now.Before(f.until) {
			retry = earliest(retry, f.until)
			held = append(held, s)
			continue
		}
		if needsAny(s, held) {
			held = append(held, s)
			continue
		}
		steps = append(steps, s)
	}
	return steps, retry
}

func needsAny(s pod.Step, held []pod.Step) bool {
	for _, h := range held {
		if pod.After(s, h) == pod.Succeeded {
			return true
		}
	}
	return false
}

// round is one execution of a plan's steps.
type round struct {
	w        *worker
	desired  pod.Desired
	observed pod.Observed

	mu      sync.Mutex
	sandbox *pod.Sandbox
	ids     map[string]string // container → id made in this round
}

// errSkipped ends a step that needed another which did not end well; errLater one that goes
// on beyond this round.
var (
	errSkipped = errors.New("skipped")
	errLater   = errors.New("goes on")
)

// execute runs the steps, each as soon as those it comes after have ended. It returns when
// all have ended or were left out.
func (w *worker) execute(ctx context.Context, steps []pod.Step, o pod.Observed, d pod.Desired) {
	r := &round{w: w, desired: d, observed: o, sandbox: o.Sandbox, ids: map[string]string{}}
	done := make([]chan struct{}, len(steps))
	errs := make([]error, len(steps))
	for i := range steps {
		done[i] = make(chan struct{})
	}
	w.setPlan(steps)
	var wg sync.WaitGroup
	for i, s := range steps {
		wg.Go(func() {
			defer close(done[i])
			for j, earlier := range steps[:i] {
				wait := pod.After(s, earlier)
				if wait == pod.Independent {
					continue
				}
				<-done[j]
				if wait == pod.Succeeded && errs[j] != nil {
					errs[i] = errSkipped
					return
				}
			}
			name := stepName(s)
			failpoint.Hit("before " + name)
			errs[i] = r.do(ctx, s)
			failpoint.Hit("after " + name)
		})
	}
	wg.Wait()
	w.settle(ctx, steps, errs)
}

// stepName is the step's type, "CreateContainer": what failpoints are named by.
func stepName(s pod.Step) string { return strings.TrimPrefix(fmt.Sprintf("%T", s), "pod.") }

// settle counts failures and successes, and logs each change of error once.
func (w *worker) settle(ctx context.Context, steps []pod.Step, errs []error) {
	w.lastDone = map[string]bool{}
	for i, s := range steps {
		err := errs[i]
		switch {
		case err == nil:
			w.lastDone[s.String()] = true
		case errors.Is(err, errSkipped), errors.Is(err, errLater), ctx.Err() != nil:
		default:
			w.failed(s, err)
		}
	}
	w.setPlan(nil)
}

func (w *worker) failed(s pod.Step, err error) {
	key := s.String()
	f := w.failures[key]
	if f == nil {
		f = &failure{}
		w.failures[key] = f
	}
	f.count++
	f.until = time.Now().Add(jitter(stepBackOff(f.count)))
	if f.err == nil || f.err.Error() != err.Error() {
		f.err = err
		w.log.Warn("step did not succeed", "step", key, "err", err)
		w.note(fmt.Errorf("%s: %w", key, err))
	}
}

// start takes one of the slots that bound how many things are started at once.
func (r *round) start(ctx context.Context) (release func(), err error) {
	select {
	case r.w.r.slots <- struct{}{}:
		return func() { <-r.w.r.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
