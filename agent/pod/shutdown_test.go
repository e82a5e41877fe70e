package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestRevived(t *testing.T) {
	end, evict := Terminated(3), Failed{Reason: evicted}
	for name, test := range map[string]struct {
		facts Facts
		want  bool
	}{
		"a static pod after a shutdown": {Facts{Static: true, Failed: &end, Finished: v1.PodFailed, Stop: &PodStop{}}, true},
		"one that was ended halfway":    {Facts{Static: true, Failed: &end, Stop: &PodStop{}}, true},
		"a pod of the API":              {Facts{Failed: &end, Finished: v1.PodFailed}, false},
		"a static pod that was evicted": {Facts{Static: true, Failed: &evict, Finished: v1.PodFailed}, false},
		"one that runs":                 {Facts{Static: true}, false},
	} {
		got, ok := test.facts.Revived()
		if ok != test.want || ok && (got.Failed != nil || got.Stop != nil || got.Finished != "" || !got.Static) {
			t.Errorf("%s: %v %+v", name, ok, got)
		}
	}
	if *end.GraceSeconds != 3 || end.Disruption != v1.PodReasonTerminationByKubelet {
		t.Errorf("%+v", end)
	}
}
