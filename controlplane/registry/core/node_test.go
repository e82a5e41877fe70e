package core

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestHeartbeatsOfLiveNodesAreShownFresh(t *testing.T) {
	old := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	cached := []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: old, LastTransitionTime: old},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionUnknown, LastHeartbeatTime: old},
		{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, LastHeartbeatTime: old},
		{Type: "example.org/Fan", Status: corev1.ConditionTrue, LastHeartbeatTime: old},
	}
	shown := func(name string, alive func(string) bool) []corev1.NodeCondition {
		list := &corev1.NodeList{Items: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: cached}}}}
		s := ShowNodes(nil, alive)
		items := s.Items(list)
		s.Freshen(&items[0])
		return list.Items[0].Status.Conditions
	}
	n1 := func(name string) bool { return name == "n1" }
	began := time.Now().Truncate(time.Second)
	got := shown("n1", n1)
	if beat := got[0].LastHeartbeatTime; beat.Time.Before(began) || !got[0].LastTransitionTime.Equal(&old) {
		t.Errorf("Ready of a live node is shown as %+v", got[0])
	}
	for _, c := range got[1:] {
		if !c.LastHeartbeatTime.Equal(&old) {
			t.Errorf("%s, which the agent does not vouch for, beats: %+v", c.Type, c)
		}
	}
	if !cached[0].LastHeartbeatTime.Equal(&old) {
		t.Error("what is shared with the cache was changed")
	}
	for name, got := range map[string][]corev1.NodeCondition{"another node": shown("n2", n1), "no gateway": shown("n1", nil)} {
		if !got[0].LastHeartbeatTime.Equal(&old) {
			t.Errorf("%s: %v", name, got[0].LastHeartbeatTime)
		}
	}
}
