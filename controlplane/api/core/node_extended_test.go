package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

func TestSettleExtended(t *testing.T) {
	for _, test := range []struct {
		name                        string
		capacity, allocatable, want corev1.ResourceList
	}{
		{"new", amounts("cpu", "2", "example.com/a", "5"), amounts("cpu", "1"), amounts("cpu", "1", "example.com/a", "5")},
		{"nothing yet", amounts("example.com/a", "5"), nil, amounts("example.com/a", "5")},
		{"less on purpose", amounts("example.com/a", "5"), amounts("example.com/a", "3"), amounts("example.com/a", "3")},
		{"fewer than before", amounts("example.com/a", "2"), amounts("example.com/a", "5"), amounts("example.com/a", "2")},
		{"taken away", amounts("cpu", "2"), amounts("cpu", "1", "example.com/a", "5"), amounts("cpu", "1")},
		{"not extended", amounts("cpu", "2", "memory", "1Gi"), amounts("cpu", "2"), amounts("cpu", "2")},
	} {
		s := corev1.NodeStatus{Capacity: test.capacity, Allocatable: test.allocatable}
		SettleExtended(&s)
		if !apiequality.Semantic.DeepEqual(s.Allocatable, test.want) {
			t.Errorf("%s: %v, want %v", test.name, s.Allocatable, test.want)
		}
	}
}
