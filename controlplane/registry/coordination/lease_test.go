package coordination

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"coracle/internal/liveness"
)

type alive map[string]bool

func (a alive) Alive(node string) bool { return a[node] }

func TestLeasesOfLiveSessionsAreShownFresh(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	sessions := alive{"n1": true, "n3": true}
	old := metav1.NewMicroTime(now.Add(-time.Hour))
	lease := func(ns, name, holder string, ended bool) *coordinationv1.Lease {
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To(holder), RenewTime: &old}}
		if ended {
			l.Annotations = map[string]string{liveness.SessionEndedAnnotation: now.Format(time.RFC3339)}
		}
		return l
	}
	for name, tc := range map[string]struct {
		lease *coordinationv1.Lease
		want  bool
	}{
		"live":            {lease(liveness.NodeLeaseNamespace, "n1", "gw", false), true},
		"gone":            {lease(liveness.NodeLeaseNamespace, "n2", "gw", false), false},
		"ended":           {lease(liveness.NodeLeaseNamespace, "n3", "gw", true), false},
		"other namespace": {lease("default", "n1", "gw", false), false},
	} {
		freshen(tc.lease, sessions, now)
		if got := tc.lease.Spec.RenewTime.Time.Equal(now); got != tc.want {
			t.Errorf("%s: renewed at %v, fresh is wanted: %v", name, tc.lease.Spec.RenewTime, tc.want)
		}
	}
	if !old.Time.Equal(now.Add(-time.Hour)) {
		t.Errorf("what is shared with the cache was changed to %v", old)
	}
	unknown := lease(liveness.NodeLeaseNamespace, "n1", "gw", false)
	freshen(unknown, nil, now)
	if unknown.Spec.RenewTime != &old {
		t.Error("without sessions nothing is live")
	}
}
