package status

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	nodev1 "coracle/proto/node/v1"
)

func ownPod(name string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{"a": "1", "b": "2", "c": "3"}}}
}

// TestMirrorsAreSaidUntilAcknowledged: the whole set each time, once where nothing changed, and again on each connection.
func TestMirrorsAreSaidUntilAcknowledged(t *testing.T) {
	o := open(t, newDisk())
	pending := func() *nodev1.MirrorPods {
		t.Helper()
		msgs, _ := o.Pending(0)
		if len(msgs) > 1 {
			t.Fatalf("%d messages pending", len(msgs))
		}
		if len(msgs) == 0 {
			return nil
		}
		return msgs[0].GetMirrorPods()
	}
	ack := func(m *nodev1.MirrorPods) {
		o.Ack(&nodev1.StatusAck{Kind: nodev1.StatusAck_MIRRORS, Sequence: m.GetSequence()})
	}
	o.Resend()
	if m := pending(); m != nil {
		t.Errorf("said of a node without any: %v", m)
	}
	o.SetMirrors([]*v1.Pod{ownPod("web"), ownPod("db")})
	first := pending()
	if len(first.GetPods()) != 2 {
		t.Fatalf("said: %v", first)
	}
	o.SetMirrors([]*v1.Pod{ownPod("web")})
	ack(first)
	second := pending()
	if len(second.GetPods()) != 1 {
		t.Errorf("the acknowledgement of the set before took the present one along: %v", second)
	}
	ack(second)
	o.SetMirrors([]*v1.Pod{ownPod("web")})
	if m := pending(); m != nil {
		t.Errorf("the same was said again: %v", m)
	}
	o.Resend()
	if m := pending(); len(m.GetPods()) != 1 {
		t.Errorf("on a new connection: %v", m)
	}
}

// TestLocalStatusIsNeverSent: the API does not know such a uid.
func TestLocalStatusIsNeverSent(t *testing.T) {
	d := newDisk()
	o := open(t, d)
	o.SetLocalPod("s1", "default", "web", v1.PodStatus{Phase: v1.PodFailed})
	o.Resend()
	o.Again("s1")
	o.flush(time.Now().Add(time.Hour))
	if msgs, _ := o.Pending(0); len(msgs) > 0 {
		t.Errorf("sent: %v", msgs)
	}
	if got := d.Facts(bucketPending); len(got) > 0 {
		t.Errorf("written down: %v", got)
	}
	if s, _, ok := o.Last("s1"); !ok || s.Phase != v1.PodFailed {
		t.Errorf("last: %v %v", s, ok)
	}
	o.Forget("s1")
	if _, _, ok := o.Last("s1"); ok {
		t.Error("not forgotten")
	}
}
