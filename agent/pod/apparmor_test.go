package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestAppArmorAdmission(t *testing.T) {
	profile := func(kind v1.AppArmorProfileType) *v1.AppArmorProfile { return &v1.AppArmorProfile{Type: kind} }
	for _, tc := range []struct {
		name    string
		change  func(*v1.Pod)
		refused bool
	}{
		{"none named", func(*v1.Pod) {}, false},
		{"unconfined", func(p *v1.Pod) {
			p.Spec.SecurityContext = &v1.PodSecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeUnconfined)}
		}, false},
		{"of the pod", func(p *v1.Pod) {
			p.Spec.SecurityContext = &v1.PodSecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeRuntimeDefault)}
		}, true},
		{"of a container", func(p *v1.Pod) {
			p.Spec.Containers[0].SecurityContext = &v1.SecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeLocalhost)}
		}, true},
	} {
		for _, missing := range []bool{false, true} {
			p := newPod(container("web"))
			tc.change(p)
			rejected, _ := (&Occupancy{NoAppArmor: missing}).Admit(p)
			if got := rejected != nil && rejected.Reason == "AppArmor"; got != (missing && tc.refused) {
				t.Errorf("%s, AppArmor missing %v: %+v", tc.name, missing, rejected)
			}
		}
	}
}
