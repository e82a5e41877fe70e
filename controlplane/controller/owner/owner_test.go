package owner

import (
	"encoding/json"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/utils/ptr"
)

func pod(name, app string, owner types.UID, deleted bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{"app": app}}}
	if owner != "" {
		p.OwnerReferences = []metav1.OwnerReference{{UID: owner, Controller: ptr.To(true)}}
	}
	if deleted {
		p.DeletionTimestamp = &metav1.Time{}
	}
	return p
}

func TestSort(t *testing.T) {
	pods := []*corev1.Pod{
		pod("held", "a", "me", false), pod("held, going", "a", "me", true), pod("moved away", "b", "me", false),
		pod("orphan", "a", "", false), pod("orphan, going", "a", "", true), pod("stranger", "b", "", false), pod("another's", "a", "other", false),
	}
	names := func(list []*corev1.Pod) []string {
		var out []string
		for _, p := range list {
			out = append(out, p.Name)
		}
		return out
	}
	me := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "me"}}
	selector := labels.SelectorFromSet(labels.Set{"app": "a"})
	c := Sort(me, selector, pods)
	if !slices.Equal(names(c.Held), []string{"held", "held, going"}) || !slices.Equal(names(c.Adopt), []string{"orphan"}) || !slices.Equal(names(c.Release), []string{"moved away"}) {
		t.Errorf("held %v, adopt %v, release %v", names(c.Held), names(c.Adopt), names(c.Release))
	}
	me.DeletionTimestamp = &metav1.Time{}
	if c = Sort(me, selector, pods); len(c.Held) != 2 || len(c.Adopt)+len(c.Release) != 0 {
		t.Errorf("an owner that goes: held %v, adopt %v, release %v", names(c.Held), names(c.Adopt), names(c.Release))
	}
}

func TestPatches(t *testing.T) {
	p := pod("p", "a", "", false)
	me := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "me", Name: "me"}}
	adopt, err := AdoptPatch(p.UID, Reference(me, corev1.SchemeGroupVersion.WithKind("Pod")))
	if err != nil {
		t.Fatal(err)
	}
	p = patched(t, p, adopt)
	if !metav1.IsControlledBy(p, me) || !*p.OwnerReferences[0].BlockOwnerDeletion {
		t.Fatalf("owners after adopting: %+v", p.OwnerReferences)
	}
	p.OwnerReferences = append(p.OwnerReferences, metav1.OwnerReference{UID: "other", Name: "other"})
	release, err := ReleasePatch(p.UID, "me")
	if err != nil {
		t.Fatal(err)
	}
	if p = patched(t, p, release); len(p.OwnerReferences) != 1 || p.OwnerReferences[0].UID != "other" {
		t.Fatalf("owners after releasing: %+v", p.OwnerReferences)
	}
}

func patched(t *testing.T, p *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = strategicpatch.StrategicMergePatch(raw, patch, corev1.Pod{}); err != nil {
		t.Fatal(err)
	}
	out := &corev1.Pod{}
	if err := json.Unmarshal(raw, out); err != nil {
		t.Fatal(err)
	}
	return out
}
