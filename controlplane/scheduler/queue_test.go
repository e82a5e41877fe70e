package scheduler

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/controlplane/scheduler/decide"
)

func pending(name string, priority int32) *decide.Pod {
	return decide.NewPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)},
		Spec:       corev1.PodSpec{Priority: &priority},
	})
}

// pass lets the bubble's time pass, which takes none.
func pass(d time.Duration) { <-time.After(d) }

func pop(t *testing.T, q *queue) string {
	t.Helper()
	p, ok := q.pop(t.Context())
	if !ok {
		t.Fatal("the queue ended")
	}
	return p.Name
}

// within pops, and fails unless the pod comes after just that time.
func within(t *testing.T, q *queue, name string, after time.Duration) {
	t.Helper()
	start := time.Now()
	if got := pop(t, q); got != name || time.Since(start) != after {
		t.Fatalf("got %s after %v, want %s after %v", got, time.Since(start), name, after)
	}
}

func TestQueueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(time.Now)
		q.set(pending("old", 0))
		pass(time.Second)
		q.set(pending("young", 0))
		q.set(pending("important", 10))
		if got := q.pending(); !slices.Equal(got, []string{"default/important", "default/old", "default/young"}) {
			t.Errorf("pending: %v", got)
		}
		for _, want := range []string{"important", "old", "young"} {
			within(t, q, want, 0)
		}
	})
}

func TestQueueParksUntilSomethingHelps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(time.Now)
		q.set(pending("p", 0))
		pop(t, q)
		q.park("p", decide.Nodes|decide.Freed)
		pass(time.Minute)
		q.moved(decide.Placed) // does not help
		q.set(pending("other", 0))
		within(t, q, "other", 0)
		q.remove("other")
		q.moved(decide.Freed)
		within(t, q, "p", 0)
		q.park("p", decide.Nodes)
		q.moved(decide.Nodes) // just tried: others go first
		q.set(pending("other", 0))
		within(t, q, "other", 0)
		q.remove("other")
		within(t, q, "p", 0)
		q.park("p", decide.Nodes)
		within(t, q, "p", parkedLimit) // a lost event costs time only
	})
}

func TestQueueLosesNothingThatHappensMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(time.Now)
		q.set(pending("p", 0))
		pop(t, q)
		q.moved(decide.Nodes)
		q.park("p", decide.Nodes)
		within(t, q, "p", 0)

		q.set(pending("p", 7)) // changed while it is busy
		q.park("p", decide.Nodes)
		p, _ := q.pop(t.Context())
		if p.Priority() != 7 {
			t.Errorf("tried the old state again")
		}
		q.remove("p") // deleted while it is busy
		q.park("p", decide.Nodes)
		if got := q.pending(); got != nil {
			t.Errorf("a deleted pod came back: %v", got)
		}
	})
}

func TestQueueBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(time.Now)
		q.set(pending("p", 0))
		within(t, q, "p", 0)
		for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
			q.retry("p")
			within(t, q, "p", want*time.Second)
		}
	})
}

func TestQueueEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := newQueue(time.Now).pop(ctx); ok {
		t.Error("popped from an empty queue")
	}
}
