package expect

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

var now = time.Unix(1000, 0)

func satisfied(t *testing.T, e *Expectations, at time.Time, want bool) {
	t.Helper()
	if ok, left := e.Satisfied("k", at); ok != want || (left > 0) == ok {
		t.Errorf("satisfied: %v with %v left, want %v", ok, left, want)
	}
}

func TestCreations(t *testing.T) {
	var e Expectations
	satisfied(t, &e, now, true)
	e.Expect("k", 3, nil, now)
	e.Created("k", 1)
	e.Created("other", 5)
	satisfied(t, &e, now, false)
	e.Created("k", 9) // more than awaited, as after an adoption
	satisfied(t, &e, now, true)
}

func TestDeletions(t *testing.T) {
	var e Expectations
	e.Expect("k", 0, []types.UID{"a", "b"}, now)
	e.Deleted("k", "a")
	e.Deleted("k", "a") // told twice: the mark and the end
	satisfied(t, &e, now, false)
	e.Deleted("k", "b")
	satisfied(t, &e, now, true)
}

func TestLostEventsCostTimeOnly(t *testing.T) {
	var e Expectations
	e.Expect("k", 1, nil, now)
	satisfied(t, &e, now.Add(expiry-1), false)
	satisfied(t, &e, now.Add(expiry), true)
	e.Expect("k", 1, nil, now)
	e.Forget("k")
	satisfied(t, &e, now, true)
}
