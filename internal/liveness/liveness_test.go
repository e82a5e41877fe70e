package liveness

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

func lease(holder string, ended ...string) *coordinationv1.Lease {
	l := &coordinationv1.Lease{}
	if holder != "" {
		l.Spec.HolderIdentity = &holder
	}
	if len(ended) > 0 {
		l.Annotations = map[string]string{SessionEndedAnnotation: ended[0]}
	}
	return l
}

func TestReadSession(t *testing.T) {
	when := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		lease *coordinationv1.Lease
		want  Session
		live  bool
	}{
		"no lease":             {nil, Session{}, false},
		"no holder":            {lease(""), Session{}, false},
		"held":                 {lease("a"), Session{Gateway: "a"}, true},
		"ended":                {lease("a", when.Format(time.RFC3339)), Session{Gateway: "a", Ended: when}, false},
		"ended at no time":     {lease("a", "yesterday"), Session{Gateway: "a", Ended: time.Unix(0, 0)}, false},
		"ended at an empty":    {lease("a", ""), Session{Gateway: "a", Ended: time.Unix(0, 0)}, false},
		"ended in year nought": {lease("a", "0001-01-01T00:00:00Z"), Session{Gateway: "a", Ended: time.Unix(0, 0)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := ReadSession(tc.lease)
			if got.Gateway != tc.want.Gateway || !got.Ended.Equal(tc.want.Ended) || got.Live() != tc.live {
				t.Errorf("got %+v live %v, want %+v live %v", got, got.Live(), tc.want, tc.live)
			}
		})
	}
}

func TestGatewayName(t *testing.T) {
	if name, ok := GatewayName(GatewayLeaseName("n1")); !ok || name != "n1" {
		t.Errorf("got %q %v, want n1", name, ok)
	}
	for _, other := range []string{"coracle-gateway-", "coracle-control", ""} {
		if name, ok := GatewayName(other); ok {
			t.Errorf("%q was taken for gateway %q", other, name)
		}
	}
}

// A Lease is read back from the store, where anybody may have written it.
func FuzzReadSession(f *testing.F) {
	f.Add("a", "2026-03-01T12:00:00Z")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, holder, ended string) {
		if ReadSession(lease(holder, ended)).Live() {
			t.Error("a session with an end is not live")
		}
	})
}
