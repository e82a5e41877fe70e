package store

import (
	"log/slog"
	"path/filepath"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func ownPod(t *testing.T, name, uid, image string) Object {
	t.Helper()
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(uid)},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "web", Image: image}}},
	}
	data, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return Object{Kind: KindPod, Namespace: "default", Name: name, UID: uid, ResourceVersion: "1", Data: data}
}

func TestLocalObjects(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "store.db"), slog.New(slog.DiscardHandler))
	if err := s.PutObject(ownPod(t, "assigned", "a", "web:1")); err != nil {
		t.Fatal(err)
	}
	changes := s.Watch()
	s.SetLocal([]Object{ownPod(t, "own", "o1", "web:1"), ownPod(t, "other", "o2", "web:1")}, false)
	if s.LocalWhole() {
		t.Error("whole, though not said to be")
	}
	wantChanges(t, changes, "other o2", "own o1")
	if got := len(s.Pods()); got != 3 {
		t.Errorf("%d pods, want 3", got)
	}
	if p, ok := s.Pod("o1"); !ok || p.Name != "own" {
		t.Errorf("local pod: %v %v", p, ok)
	}
	for _, o := range s.Objects("") {
		if o.Local || o.UID != "a" {
			t.Errorf("%s counts as assigned by the control plane", o.Key())
		}
	}

	// One changes, one goes, one stays: only what changed is told.
	s.SetLocal([]Object{ownPod(t, "own", "o1", "web:2")}, true)
	wantChanges(t, changes, "other o2 removed", "own o1", "all")
	if _, ok := s.Pod("o2"); ok {
		t.Error("a local pod that is gone is still found")
	}
	s.SetLocal([]Object{ownPod(t, "own", "o1", "web:2")}, true)
	wantChanges(t, changes)
	if !s.LocalWhole() || len(s.Objects(KindPod)) != 2 {
		t.Errorf("whole %v, objects %v", s.LocalWhole(), s.Objects(KindPod))
	}
}

func wantChanges(t *testing.T, c <-chan Change, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case change := <-c:
			got := change.Name + " " + change.UID
			if change.Removed {
				got += " removed"
			}
			if change.All {
				got = "all"
			}
			if got != w {
				t.Errorf("change %q, want %q", got, w)
			}
		default:
			t.Errorf("no change, want %q", w)
		}
	}
	select {
	case change := <-c:
		t.Errorf("unwanted change %+v", change)
	default:
	}
}
